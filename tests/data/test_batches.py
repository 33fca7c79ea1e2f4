from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import NORDIC
from nordocr_cli.data import resize
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import LineBatches, normalize_tensor
from nordocr_cli.data.buffers import Buffers
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.records import LineRow
from nordocr_cli.settings import Augment

GEOMETRY = Geometry(max_width=256)
CHANGES = (
    "join",
    "squeeze",
    "crop",
    "neighbour",
    "resample",
    "blur",
    "brightness",
    "noise",
    "threshold",
    "jpeg",
)


def write_store(path, lines, geometry=GEOMETRY, seed=0):
    """`lines` are (width, text)."""
    rng = np.random.default_rng(seed)
    with LineStoreWriter(path, geometry, NORDIC) as writer:
        for number, (width, text) in enumerate(lines):
            image = rng.integers(0, 200, (geometry.height, width, 3), dtype=np.uint8)
            writer.add(
                image, LineRow(id=f"{path.stem}-{number}", image=f"{number}.png", text=text)
            )
    return LineStore(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(1)
    some = [(int(w) * 4, f"Øl {w}") for w in rng.integers(10, 64, 60)]
    with (
        write_store(folder / "a.lmdb", some[:37]) as a,
        write_store(folder / "b.lmdb", some[37:], seed=1) as b,
    ):
        yield a, b


def batches_of(stores, **options):
    settings = BatchOptions(**{"budget_px": 1000, "workers": 2} | options)
    return LineBatches(stores, NORDIC, GEOMETRY, settings)


@settings(max_examples=25, deadline=None)
@given(
    budget=st.integers(4, 5000),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
    extra=st.integers(0, 400),
)
def test_every_line_once_an_epoch_within_the_budget(stores, budget, seed, epoch, extra):
    augment = Augment(pad_right=0.5, max_pad_right_px=extra)
    batches = batches_of(
        stores, budget_px=budget, seed=seed, shuffle=True, augment=augment, mask_share=0.5
    )
    plans = batches.plan(epoch)
    assert Counter(int(i) for plan in plans for i in plan.lines) == Counter(range(60))
    for plan in plans:
        width = batches._planner.batch_width(plan)
        assert len(plan.numbers) == 1 or len(plan.numbers) * width <= budget
        assert width <= GEOMETRY.max_width
        assert not (plan.masked and plan.extra_px)


def test_order_and_pixels_are_a_function_of_seed_and_epoch(stores):
    def epoch(number, start=0, workers=2, seed=3):
        augment = Augment(**dict.fromkeys(CHANGES, 0.5), pad_right=0.5)
        batches = batches_of(
            stores,
            seed=seed,
            shuffle=True,
            augment=augment,
            mask_share=0.5,
            workers=workers,
        )
        return list(batches.epoch(number, start))

    once = epoch(4)
    for again, first in ((epoch(4, workers=0), once), (epoch(4, start=5), once[5:])):
        assert [b.row_ids for b in again] == [b.row_ids for b in first]
        assert all(
            torch.equal(a.images, b.images) for a, b in zip(again, first, strict=True)
        )
    assert [b.row_ids for b in epoch(5)] != [b.row_ids for b in once]
    assert [b.row_ids for b in epoch(4, seed=2)] != [b.row_ids for b in once]


def test_a_batch_holds_its_lines_and_white_beside_them(stores):
    by_id = {
        store.row(i).id: (store.image(i), store.row(i).text)
        for store in stores
        for i in range(len(store))
    }
    seen = 0
    for batch in batches_of(stores).epoch(0):
        targets = torch.split(batch.targets, batch.target_lengths.tolist())
        pixels = normalize_tensor(batch.images, GEOMETRY)
        assert batch.masked
        assert batch.images.shape[3] == batch.widths.max()
        for slot, row_id in enumerate(batch.row_ids):
            image, text = by_id[row_id]
            width = int(batch.widths[slot])
            assert np.array_equal(
                batch.images[slot, :, :, :width].permute(1, 2, 0).numpy(), image
            )
            assert (pixels[slot, :, :, width:] == 1.0).all()
            assert NORDIC.decode(targets[slot].tolist()) == batch.texts[slot] == text
            seen += 1
        assert np.array_equal(
            pixels.numpy(), resize.normalize_array(batch.images.numpy(), GEOMETRY)
        )
    assert seen == 60


def test_little_padding_also_in_a_small_store(stores):
    assert batches_of(stores, shuffle=True, budget_px=2000).padding_share(0) < 0.15


def test_augmented_samples_say_what_their_lines_say(stores):
    """Every line stands once; a joined sample's label is its lines' labels with spaces between, and
    it has the frames for it.
    """
    augment = Augment(**dict.fromkeys(CHANGES, 0.5))
    batches = batches_of(stores, shuffle=True, augment=augment, budget_px=5000)
    texts, joined = [], 0
    for batch in batches.epoch(2):
        rows, width = list(batch.texts), batch.images.shape[3]
        assert batch.lines == len(rows)
        for slot, target in enumerate(batch.targets.split(batch.target_lengths.tolist())):
            label, own, taken = NORDIC.decode(target.tolist()), int(batch.widths[slot]), []
            while " ".join(taken) != label:
                taken.append(rows.pop(0))
            joined += len(taken) > 1
            texts += taken
            assert own % 4 == 0
            assert own <= width <= GEOMETRY.max_width
            assert frames_needed(target.tolist()) <= GEOMETRY.out_length(own)
            assert (batch.images[slot, :, :, own:] == 255).all()
        assert rows == []
    assert sorted(texts) == sorted(
        store.row(i).text for store in stores for i in range(len(store))
    )
    assert joined >= 5


def test_only_some_lines(stores):
    ids = [i for b in batches_of(stores, only=[0, 40]).epoch(0) for i in b.row_ids]
    assert sorted(ids) == ["a-0", "b-3"]


def test_a_label_that_cannot_fit_is_named(tmp_path):
    with write_store(
        tmp_path / "bad.lmdb", [(40, "kort"), (16, "alltför lång"), (8, "oo")]
    ) as store:
        with pytest.raises(
            DataError,
            match=r"'bad-1' needs 13 CTC frames and has 4; row 'bad-2' needs 3 .* has 2",
        ):
            batches_of([store])
        assert len(batches_of([store], only=[0])) == 1  # what is not used is not judged


def test_another_charset_or_geometry_is_refused(stores):
    from nordocr_cli.charset import ALPHANUMERIC

    with pytest.raises(DataError, match="charset"):
        LineBatches(stores, ALPHANUMERIC, GEOMETRY, BatchOptions(budget_px=100))
    with pytest.raises(DataError, match=r"geometry\.max_width: 256 / 128"):
        LineBatches(stores, NORDIC, Geometry(max_width=128), BatchOptions(budget_px=100))


def test_gray_lines_stay_one_channel_until_they_are_normalized(tmp_path, stores):
    rng = np.random.default_rng(2)
    with LineStoreWriter(tmp_path / "gray.lmdb", GEOMETRY, NORDIC) as writer:
        for number in range(20):
            writer.add(
                rng.integers(0, 256, (32, 4 * (8 + number), 3), dtype=np.uint8)[
                    :, :, :1
                ].repeat(3, 2),
                LineRow(str(number), "", "x"),
            )
    with LineStore(tmp_path / "gray.lmdb") as gray:
        augment = Augment(**dict.fromkeys(CHANGES, 1.0) | {"join": 0})
        for options in ({}, {"augment": augment}):
            alone = {
                row.id: image
                for b in batches_of([gray], **options).epoch(0)
                for row, image in zip(b.rows, b.images, strict=True)
            }
            assert {image.shape[0] for image in alone.values()} == {1}
        mixed = batches_of([stores[0], gray], budget_px=100_000)
        for batch in mixed.epoch(0):
            assert batch.images.shape[1] == 3
            for row, image, width in zip(
                batch.rows, batch.images, batch.widths, strict=True
            ):
                store = gray if row.id.isdigit() else stores[0]
                index = int(row.id.split("-")[-1])
                np.testing.assert_array_equal(
                    image[:, :, :width].permute(1, 2, 0).numpy(), store.image(index)
                )
        batch = next(iter(batches_of([gray]).epoch(0)))
        values = normalize_tensor(batch.images, GEOMETRY)
        assert values.shape[1] == 3
        assert values.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(
            values, normalize_tensor(batch.images.expand(-1, 3, -1, -1), GEOMETRY)
        )


def test_memory_is_used_again_but_never_while_a_batch_holds_it(stores):
    buffers = Buffers()
    first = buffers.take((2, 32, 40, 3))
    address, tensor = first.ctypes.data, torch.from_numpy(first).permute(0, 3, 1, 2)[1]
    del first
    second = buffers.take((2, 32, 40, 3))
    assert second.ctypes.data != address  # the tensor looks into the first
    del tensor
    assert buffers.take((1, 32, 80, 3)).ctypes.data == address
    held = list(batches_of(stores).epoch(0))
    for batch in held:
        for row, image, width in zip(batch.rows, batch.images, batch.widths, strict=True):
            store = stores[0] if row.id.startswith("a-") else stores[1]
            assert np.array_equal(
                image[:, :, :width].permute(1, 2, 0).numpy(),
                store.image(int(row.id.split("-")[1])),
            )


def test_ratios_mix_stores_and_use_each_line_equally_often(stores):
    # Of 37 and 23 lines.
    batches = batches_of(stores, shuffle=True, ratios=[1.0, 3.0], seed=5)
    seen = Counter()
    for epoch in range(12):
        lines = [int(i) for plan in batches.plan(epoch) for i in plan.lines]
        assert len(lines) == len(batches) == 60
        assert sum(i < 37 for i in lines) == 15
        seen.update(lines)
    assert set(seen) == set(range(60))
    for store in (range(37), range(37, 60)):
        often = [seen[i] for i in store]
        assert max(often) - min(often) <= 1
    alone = batches_of(stores, shuffle=True, ratios=[1.0, 3.0], only=[40, 41])
    assert Counter(int(i) for plan in alone.plan(0) for i in plan.lines) == {40: 1, 41: 1}


def test_processes_share_an_epoch_and_make_as_many_steps(stores):
    augment = Augment(join=0.3)
    whole = batches_of(stores, shuffle=True, augment=augment)
    shares = [
        list(batches_of(stores, shuffle=True, augment=augment, share=(rank, 3)).epoch(1))
        for rank in range(3)
    ]
    assert len(whole.plan(1)) % 3  # so that one of them has a batch too many
    assert {len(share) for share in shares} == {-(-len(whole.plan(1)) // 3)}
    counted = [batch for share in shares for batch in share if batch.counted]
    assert Counter(i for batch in counted for i in batch.row_ids) == Counter(
        s.row(i).id for s in stores for i in range(len(s))
    )
    for together in zip(*shares, strict=True):
        true = [batch for batch in together if batch.counted]
        assert {b.shared_lines for b in together} == {sum(b.lines for b in true)}
        assert {b.shared_characters for b in together} == {
            sum(int(b.target_lengths.sum()) for b in true)
        }
    alone = next(whole.epoch(1))
    assert (alone.shared_lines, alone.shared_characters) == (
        alone.lines,
        int(alone.target_lengths.sum()),
    )
