"""The header of a line store: geometry, charset, counts, a hash of its content, and how it was
made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from nordocr_cli.artifact.sealing import JSON_DIGEST, json_digest, sealed_json
from nordocr_cli.charset import Charset
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.limits import parse_json

# 3: the header holds a digest of its own values. 2: it has none. 1: lines are PNGs.
STORE_SCHEMA = 3


@dataclass(frozen=True)
class StoreHeader:
    """The header of a line store. `counts` holds at least `read` and `kept` from prep (in a
    validation store they count both stores), and one entry for each reason for which rows were
    rejected. `content_sha256` is a hash of rows and pixels in order, so that it is the same on
    every machine. `made` records how the store was made (sources, profile, the decision for lines
    that are too wide).
    """

    geometry: Geometry
    charset_name: str
    charset_sha256: str
    lines: int
    content_sha256: str
    counts: Mapping[str, int] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    schema: int = STORE_SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return the header as plain JSON values, with its digest from schema 3 on."""
        value = {
            "schema": self.schema,
            "geometry": self.geometry.to_json(),
            "charset": {"name": self.charset_name, "sha256": self.charset_sha256},
            "lines": self.lines,
            "content_sha256": self.content_sha256,
            "counts": dict(self.counts),
            "made": dict(self.made),
        }
        if self.schema > 2:
            return sealed_json(value)
        return value

    @classmethod
    def from_json(cls, text: bytes, store: str) -> Self:
        """Read the header of `store`. Raises DataError when it is damaged, or of a newer
        nordocr.
        """
        try:
            value = parse_json(text)
            schema = value["schema"]
            if type(schema) is not int or schema < 1:
                raise ValueError(f"schema {schema!r}")
            if schema > STORE_SCHEMA:
                raise DataError(
                    f"{store}: schema {schema} is newer than this nordocr reads ({STORE_SCHEMA});"
                    " update nordocr"
                )
            if schema > 2 or JSON_DIGEST in value:
                _require_digest(value)
            return cls(
                geometry=Geometry(**value["geometry"]),
                charset_name=value["charset"]["name"],
                charset_sha256=value["charset"]["sha256"],
                lines=int(value["lines"]),
                content_sha256=value["content_sha256"],
                counts=value["counts"],
                made=value["made"],
                schema=schema,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{store}: damaged header: {error!r}; make the store again with `nordocr prep`"
            ) from error

    def require_charset(self, charset: Charset, what: str) -> None:
        """Reject labels that were checked against another charset. Raises DataError naming both."""
        if charset.sha256 != self.charset_sha256:
            raise DataError(
                f"{what}: made for charset {self.charset_name!r} ({self.charset_sha256[:12]}…), not"
                f" for {charset.name!r} ({charset.sha256[:12]}…); make it again with `nordocr prep`"
                " and this profile"
            )

    def require_geometry(self, geometry: Geometry, what: str) -> None:
        """Reject pixels that were prepared with another geometry. Raises DataError naming each
        field that differs. The store's lines may be narrower than `geometry.max_width` allows, and
        the decision for lines that are too wide may differ.
        """
        conflicts = self.geometry.conflicts(
            geometry, ignore=("max_width", "over_width", "normalization", "pad_value")
        )
        if self.geometry.max_width > geometry.max_width:
            conflicts.append(
                f"geometry.max_width: {self.geometry.max_width} / {geometry.max_width}"
            )
        if conflicts:
            raise DataError(
                f"{what}: geometry mismatch (store / requested): {'; '.join(conflicts)}; make it"
                " again with `nordocr prep` and this profile"
            )


def _require_digest(value: Mapping[str, Any]) -> None:
    if value[JSON_DIGEST] != json_digest(value):
        raise ValueError("its values do not match their digest")


@dataclass(frozen=True)
class CharsetId:
    """The name and hash of a charset as in the header of a store, when nothing else of it
    is known.
    """

    name: str
    sha256: str
