import pytest
import torch
from torch.nn import functional as F

from nordocr_cli.models.kernels import attention as module
from nordocr_cli.models.kernels.attention import attention

# Least scores of a head that goes in pieces, longest sequence whose scores are kept, scores of a
# piece: a head here has 400.
FORMS = {
    "written out": (10**9, 99, 1),
    "pieces of one head": (0, 99, 1),
    "pieces of two of three heads": (0, 99, 800),
    "pieces of two of three lines": (0, 99, 2400),
    "pieces, not kept": (0, 0, 800),
    "fused": (10**9, 0, 1),
}


def mask(kind, length):
    """Of three lines: their padding, the same for all as what is added, and another for each query
    of one line and of all.
    """
    added = torch.linspace(-1, 1, length)
    return {
        "none": None,
        "bool": (torch.arange(length) < torch.tensor([[length], [7], [12]]))[
            :, None, None, :
        ],
        "added": added[None, None, None],
        "of each query": (added * added[:, None])[None, None],
        "of each query of a line": (
            added * added[:, None] * torch.tensor([1.0, -2.0, 3.0])[:, None, None]
        )[:, None],
    }[kind]


@pytest.mark.parametrize(
    "kind", ["none", "bool", "added", "of each query", "of each query of a line"]
)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same(form, kind, monkeypatch):
    """On a CPU in bfloat16 other paths run than in float32; gradients included."""
    for name, value in zip(
        ("_MINIMUM_SCORES", "_KEPT_TOKENS", "_PIECE"), FORMS[form], strict=True
    ):
        monkeypatch.setattr(module, name, value)
    generator = torch.Generator().manual_seed(5)
    coarse = [
        torch.randn(3, 3, 20, 32, generator=generator).bfloat16().requires_grad_()
        for _ in range(3)
    ]
    exact = [t.detach().float().requires_grad_() for t in coarse]
    keys = mask(kind, 20)
    coarse_keys = keys if keys is None or keys.dtype == torch.bool else keys.bfloat16()
    found, expected = (
        attention(*coarse, coarse_keys),
        F.scaled_dot_product_attention(*exact, attn_mask=keys),
    )
    assert found.dtype == torch.bfloat16
    assert ("InPieces" in found.grad_fn.name()) == form.startswith("pieces")
    assert torch.allclose(found.float(), expected, atol=0.03)
    with torch.no_grad():
        assert torch.allclose(attention(*coarse, coarse_keys).float(), expected, atol=0.03)
    for y in (found, expected):
        y.float().square().sum().backward()
    for a, b in zip(exact, coarse, strict=True):
        assert torch.allclose(b.grad.float(), a.grad, atol=0.2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_graph_holds_torchs_own_operator(monkeypatch):
    monkeypatch.setattr(module, "_MINIMUM_SCORES", 0)
    q = torch.randn(1, 2, 8, 16).bfloat16()
    graph = torch.jit.trace(lambda q: attention(q, q, q, None), q, check_trace=False).graph
    assert "aten::scaled_dot_product_attention" in str(graph)
