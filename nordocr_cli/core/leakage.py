"""Warnings about lines of a store that a network has seen in training."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from nordocr_cli.errors import ArtifactError, NordocrError
from nordocr_cli.progress import Progress
from nordocr_cli.training.runlog import RUN_FILE, read_run


def leakage_of_run(run: Path, stores: Sequence[Path], progress: Progress) -> str:
    """Compare stores with those that a run has trained on, as its run.json names them; return one
    sentence about what they have in common, empty when that is nothing.

    Stores that are no longer there, or hold something else by now, are noted and not compared.
    """
    from nordocr_cli.data.leakage import find_leakage
    from nordocr_cli.data.store import LineStore

    with ExitStack() as stack:
        trained: list[LineStore] = []
        for path, content in _trained_on(run):
            try:
                store = stack.enter_context(LineStore(path))
            except NordocrError:
                progress.note(
                    f"{path} is not there: its lines are not compared with those judged"
                )
                continue
            if store.header.content_sha256 != content:
                progress.note(
                    f"{path} has changed since training: its lines are not compared"
                )
                continue
            trained.append(store)
        if not trained:
            return ""
        tested = [stack.enter_context(LineStore(path)) for path in stores]
        found = find_leakage(trained, tested)
    if not found.is_found:
        return ""
    return found.describe(", ".join(map(str, stores)), "the training data")


def run_of(model: Path) -> Path | None:
    """Return the folder of the run that weights belong to, None when they lie elsewhere."""
    folder = model if model.is_dir() else model.parent
    if (folder / RUN_FILE).is_file():
        return folder
    return None


def _trained_on(run: Path) -> list[tuple[Path, str]]:
    """Paths and content hashes of the stores that a run has trained on."""
    try:
        return [
            (Path(store["path"]), store["content_sha256"])
            for store in read_run(run)["train"]
        ]
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run / RUN_FILE} is damaged: no training stores ({error!r})"
        ) from error
