"""The mask tables of permutation training, written out by hand for short labels."""

import itertools

import pytest
import torch

from nordocr_cli.models.parseq.permutations import (
    causal_mask,
    cloze_mask,
    draw_orders,
    order_masks,
    to_tokens,
)


def test_a_label_is_read_from_its_beginning_and_predicted_to_its_end():
    """Input [begin, c1, …], answer [c1, …, end]. Fed its own answer a network repeats begin for
    ever.
    """
    tokens = to_tokens(torch.tensor([7, 8, 9, 3]), torch.tensor([3, 1]), num_classes=126)
    assert tokens.tolist() == [[126, 7, 8, 9, 0], [126, 3, 0, 127, 127]]
    assert tokens[:, :-1][0].tolist() == [126, 7, 8, 9]
    assert tokens[:, 1:][0].tolist() == [7, 8, 9, 0]
    assert to_tokens(
        torch.tensor([], dtype=torch.int64), torch.tensor([0]), 5
    ).tolist() == [[5, 0]]


def test_left_to_right_and_back():
    """Two characters: forward, and backward from the end. Rows predict c1, c2, end; columns are
    begin, c1, c2.
    """
    orders = draw_orders(2, 6)
    assert orders.tolist() == [[0, 1, 2, 3], [0, 3, 2, 1]]
    forward, backward = order_masks(orders).int().tolist()
    assert forward == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert backward == [[0, 1, 0], [0, 1, 1], [0, 1, 1]]


def test_an_order_in_between():
    """c2 first, then c3, c1, end."""
    assert order_masks(torch.tensor([[0, 2, 3, 1, 4]]))[0].int().tolist() == [
        [0, 1, 0, 0],  # c1 sees begin, c2, c3
        [0, 1, 1, 1],  # c2 sees begin alone
        [0, 1, 0, 1],  # c3 sees begin, c2
        [0, 0, 0, 0],  # the end sees all
    ]


@pytest.mark.parametrize(
    ("characters", "orders"), [(0, 1), (1, 1), (2, 2), (3, 6), (4, 6), (5, 6), (30, 6)]
)
def test_orders_are_drawn_in_mirrored_pairs(characters, orders):
    torch.manual_seed(characters)
    drawn = draw_orders(characters, 6)
    assert drawn.shape == (orders, characters + 2)
    assert all(sorted(order) == list(range(characters + 2)) for order in drawn.tolist())
    assert drawn[0].tolist() == list(range(characters + 2))
    assert (drawn[:, 0] == 0).all()
    if orders > 1:
        assert drawn[1, 1:].tolist() == list(range(characters + 1, 0, -1))
        assert torch.equal(drawn[2::2, 1:-1].flip(-1), drawn[3::2, 1:-1])
        assert (drawn[2:, -1] == characters + 1).all()


@pytest.mark.parametrize("characters", [3, 4])
def test_short_labels_never_have_an_order_twice(characters):
    """Of four characters twelve orders are not mirror images of each other; three and four draw
    from such a pool.
    """
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        drawn = [tuple(order[1:-1]) for order in draw_orders(characters, 6).tolist()]
        # The second ends with begin's neighbour, not with the end.
        drawn[1] = drawn[0][::-1]
        assert len(set(drawn)) == 6
        seen.update(drawn)
    assert seen == set(itertools.permutations(range(1, characters + 1)))


def test_masks_of_writing_and_of_reading_over():
    assert causal_mask(3).int().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert cloze_mask(3).int().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
