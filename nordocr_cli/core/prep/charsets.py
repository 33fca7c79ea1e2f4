"""Which profiles use which charset, for messages about characters that are missing."""

from functools import cache

from nordocr_cli.errors import NordocrError
from nordocr_cli.profile import load_profile, profile_names


@cache
def profiles_by_charset() -> dict[str, tuple[str, ...]]:
    """Return the names of the shipped profiles by the name of their charset."""
    found: dict[str, list[str]] = {}
    for name in profile_names():
        try:
            charset = load_profile(name).profile.charset
        except NordocrError:
            continue  # a profile that is broken is named when somebody uses it
        found.setdefault(charset, []).append(name)
    return {charset: tuple(names) for charset, names in found.items()}
