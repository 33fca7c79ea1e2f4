"""A hook of mkdocs: the navigation lists the pages that exist, and those that it does not name.

Pages come and go without an edit of mkdocs.yml; what the navigation forgets stands under "More".
"""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Return the configuration with a navigation that fits the files."""
    folder = Path(config["docs_dir"])
    named: set[str] = set()
    nav = [
        entry
        for entry in (_existing(item, folder, named) for item in config["nav"])
        if entry
    ]
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    more = sorted(pages - named)
    if more:
        nav.append({"More": more})
    config["nav"] = nav
    return config


def _existing(item: Any, folder: Path, named: set[str]) -> Any:
    """Return an entry without the pages that are not there; None if nothing is left."""
    ((title, value),) = item.items()
    if isinstance(value, str):
        if not (folder / value).is_file():
            return None
        named.add(value)
        return item
    children = [
        child for child in (_existing(one, folder, named) for one in value) if child
    ]
    return {title: children} if children else None
