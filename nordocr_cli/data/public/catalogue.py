"""The list of public data sets: what each holds, under which licence, and where it is."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.limits import read_toml

CATALOGUE = Path(__file__).with_name("catalogue.toml")


class PublicSet(BaseModel):
    """One data set. `size_mb` is approximate; `sha256` is empty where no fixed archive exists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,40}$")
    description: str
    languages: str
    licence: str
    size_mb: float = Field(gt=0)
    homepage: str
    url: str
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    use: str

    @property
    def archive_name(self) -> str:
        """The file name that the archive gets on disk."""
        path = urlsplit(self.url).path
        for suffix in (".tar.gz", ".tgz", ".tar", ".zip"):
            if path.endswith(suffix):
                return self.name + suffix
        return self.name + Path(path).suffix

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON values."""
        return self.model_dump() | {"command": f"nordocr data fetch {self.name} -o DIR"}


def read_catalogue(path: Path) -> dict[str, PublicSet]:
    """Read a catalogue file. Raises UsageError naming a wrong key."""
    table = read_toml(path, "catalogue of data sets")
    sets: dict[str, PublicSet] = {}
    for name, entry in table.items():
        try:
            sets[name] = PublicSet.model_validate({"name": name, **entry})
        except (ValidationError, TypeError) as error:
            raise UsageError(f"{path}: [{name}] is not a data set: {error}") from None
    return sets


@cache
def public_sets() -> dict[str, PublicSet]:
    """The data sets of the catalogue that comes with the package, by name."""
    return read_catalogue(CATALOGUE)


def find_set(name: str) -> PublicSet:
    """Return the data set `name`. Raises UsageError with the nearest known name."""
    sets = public_sets()
    if name not in sets:
        raise UsageError(f"unknown data set {name!r}: {nearest(name, sets)}")
    return sets[name]
