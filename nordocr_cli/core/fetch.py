"""data fetch: get a public data set, verify it, unpack it, and remember what was fetched."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_json
from nordocr_cli.data.public.catalogue import PublicSet, find_set
from nordocr_cli.data.public.download import download
from nordocr_cli.data.public.unpack import unpack_into
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json
from nordocr_cli.progress import SILENT, Progress

FETCH_SCHEMA = "nordocr.fetched/1"


@dataclass(frozen=True)
class FetchPlan:
    """What is fetched from where. `sha256` is the expected checksum, empty when none is known."""

    public_set: PublicSet
    url: str
    output: Path
    sha256: str
    token: str

    @property
    def record(self) -> Path:
        """The JSON file that remembers address and checksum of what was fetched."""
        return self.output / f"{self.public_set.name}.fetched.json"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values, without the token."""
        return {
            "name": self.public_set.name,
            "licence": self.public_set.licence,
            "use": self.public_set.use,
            "url": self.url,
            "size_mb": self.public_set.size_mb,
            "sha256": self.sha256,
            "output": str(self.output),
            "sends_token": bool(self.token),
        }


def plan_fetch(
    name: str, output: Path, *, url: str = "", sha256: str = "", token_env: str = ""
) -> FetchPlan:
    """Decide what to fetch; nothing is sent yet.

    `url` names a mirror, `token_env` the environment variable that holds an access token. Raises
    UsageError for an unknown set or an empty variable, DataError for a damaged record.
    """
    public_set = find_set(name)
    token = os.environ.get(token_env, "") if token_env else ""
    if token_env and not token:
        raise UsageError(f"--token-env {token_env}: that environment variable is empty")

    plan = FetchPlan(public_set, url or public_set.url, output, "", token)
    recorded = ""
    if plan.record.exists():
        value = read_json(plan.record, "record of a fetched data set")
        if not isinstance(value, dict) or value.get("schema") != FETCH_SCHEMA:
            raise DataError(f"{plan.record} is no record of a fetched data set; delete it")
        recorded = str(value.get("sha256", ""))
    return FetchPlan(
        public_set, plan.url, output, sha256 or public_set.sha256 or recorded, token
    )


def fetch(plan: FetchPlan, progress: Progress = SILENT) -> dict[str, Any]:
    """Download, verify and unpack; return the record.

    Raises what `download` and `unpack_into` raise.
    """
    name = plan.public_set.name
    archive = plan.output / plan.public_set.archive_name
    sha256 = download(
        plan.url, archive, sha256=plan.sha256, token=plan.token, progress=progress
    )
    if not plan.sha256:
        progress.warn(
            f"{name}: the publisher names no checksum; {sha256} is recorded, and later downloads"
            " are compared with it"
        )

    files = unpack_into(archive, plan.output / name, progress)
    record = {
        "schema": FETCH_SCHEMA,
        "name": name,
        "licence": plan.public_set.licence,
        "url": plan.url,
        "sha256": sha256,
        "bytes": archive.stat().st_size,
        "files": files,
        "folder": name,
    }
    write_json(plan.record, record)
    archive.unlink()
    return record
