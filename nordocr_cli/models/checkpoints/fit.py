"""Do the tensors of a file fit a network: the same names and the same shapes."""

from collections.abc import Mapping

from torch import Tensor, nn

from nordocr_cli.errors import ArtifactError

_NAMED = 3  # differing keys that an error names


def require_same_tensors(
    network: nn.Module, state: Mapping[str, Tensor], what: str, remedy: str
) -> None:
    """Check that `state` has exactly the keys and shapes of `network`. Raises ArtifactError naming
    the first that differ, and `remedy`, a sentence on what to do.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    problems = []
    missing = [key for key in expected if key not in found]
    if missing:
        problems.append(f"{len(missing)} missing: {_first(missing)}")
    surplus = [key for key in found if key not in expected]
    if surplus:
        problems.append(f"{len(surplus)} unknown: {_first(surplus)}")
    if problems:
        raise ArtifactError(
            f"{what}: these are weights of another network; tensors {'; '.join(problems)}. {remedy}"
        )
    differing = [key for key in expected if expected[key] != found[key]]
    if differing:
        shapes = _first([f"{key} {found[key]}, not {expected[key]}" for key in differing])
        # only the number of classes differs
        classes = all(found[key][1:] == expected[key][1:] for key in differing)
        if classes:
            hint = "made for another charset"
        else:
            hint = "made for other model options"
        raise ArtifactError(f"{what}: these weights were {hint}: {shapes}. {remedy}")


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
