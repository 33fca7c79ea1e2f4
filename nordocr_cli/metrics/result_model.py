"""The base of everything that a result file holds: frozen pydantic models, whose JSON Schemas are
generated.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict


class ResultModel(BaseModel):
    """A part of a result. Unknown keys are ignored when a file is read, so that a newer version
    may add keys.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the part as plain JSON values."""
        return self.model_dump(mode="json")
