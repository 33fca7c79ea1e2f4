"""Training as a whole, on a network of 30 thousand parameters and lines that OpenCV writes."""

import json
import re
import shutil
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import BLANK, NORDIC, NORDIC_EXT
from nordocr_cli.core.train import run as core
from nordocr_cli.core.train import stores as train_data
from nordocr_cli.core.train.plan import other_options, plan_train
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.setup import new_network
from nordocr_cli.data.batches import LineBatches
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.errors import ArtifactError, DataError, Interrupted, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models import base, registry
from nordocr_cli.models.registry import build_model
from nordocr_cli.models.weights import load_model, load_weights, save_weights
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.records import LineRow
from nordocr_cli.settings import Augment
from nordocr_cli.training import disk_space as room
from nordocr_cli.training import reporting, runlog, watchdogs
from nordocr_cli.training.checkpoint import load_state, save_state
from nordocr_cli.training.evaluation import evaluate_batches
from nordocr_cli.training.runlog import new_run_folder, read_run

SETS = [
    "model.dims=[24, 48, 64]",
    "model.depths=[1, 1, 1]",
    "model.drop_path=0.1",  # so that the random numbers of a resumed run matter
    "geometry.max_width=160",
    "train.batch_size=4",
    "train.batch_width_px=100",
    "train.precision=fp32",
    "train.eval_every=5",
    "train.save_every=3",
    "train.log_every=2",
    "train.lr=3e-3",
]

AS_STORED = [
    f"augment.{name}=0"
    for name, field in Augment.model_fields.items()
    if field.annotation is float
]


def write_store(path, texts, max_width=160, charset=NORDIC):
    with LineStoreWriter(path, Geometry(max_width=max_width), charset) as writer:
        for number, text in enumerate(texts):
            image = np.full((32, 24 * len(text) + 8, 3), 255, np.uint8)
            cv2.putText(image, text, (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
            writer.add(
                image, LineRow(id=f"line-{number}", image=f"{number}.png", text=text)
            )
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    texts = ["".join(map(str, rng.integers(0, 10, rng.integers(1, 6)))) for _ in range(24)]
    return write_store(tmp_path_factory.mktemp("store") / "digits.lmdb", texts)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a network is slower on two threads, and two threads need not add up in the same
    order twice.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def profile(*more):
    return load_profile("svtrv2-nano", [*SETS, *more])


def stop_after(steps):
    """A stop that says so from the `steps + 1`-th time on: the loop asks before each step,
    evaluation before each batch.
    """
    calls = iter(range(10_000))
    return lambda: next(calls) >= steps


def weights_of(path):
    return load_weights(path)[0]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Curves take longer than these runs do; one test draws them."""
    monkeypatch.setattr(reporting, "can_draw", lambda: False)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """A run of 12 steps on one thread, never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return core.train(
        profile(),
        TrainRequest(
            train=(store,), val=(store,), run_dir=folder, max_steps=12, device="cpu"
        ),
    )


def events_of(folder):
    """What TensorBoard reads of a run."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    return [
        Event.FromString(raw)
        for path in (folder / "tensorboard").iterdir()
        for raw in RawEventFileLoader(str(path)).Load()
    ]


def test_a_run_leaves_what_other_commands_read(finished, store):
    folder = finished.run_dir
    assert finished.steps == 12
    assert finished.best_step in (5, 10, 12)
    contract = read_contract(folder / "best.safetensors")
    with LineStore(store) as lines:
        assert (
            contract.trained_widths[0]
            <= int(lines.widths.min())
            <= int(lines.widths.max())
            <= contract.trained_widths[1]
        )
        content = lines.header.content_sha256
    assert contract.charset == NORDIC
    assert contract.profile["train"]["lr"] == 3e-3
    run = read_run(folder)
    assert run["train"] == [{"path": str(store), "lines": 24, "content_sha256": content}]
    assert run["origins"]["train.lr"] == "--set"
    assert run["result"]["best_cer"] == finished.best_cer == run["best"]["cer"]
    assert run["environment"]["versions"]["torch"] == torch.__version__
    kinds = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert [k["step"] for k in kinds if k["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [k["step"] for k in kinds if k["kind"] == "eval"] == [5, 10, 12]
    assert all(
        k["loss"] > 0 and 0 <= k["data_wait"] <= 1 for k in kinds if k["kind"] == "train"
    )
    sheets = {
        event.step: value.image
        for event in events_of(folder)
        for value in event.summary.value
        if value.HasField("image")
    }
    assert sorted(sheets) == [5, 10, 12]
    sheet = cv2.imdecode(
        np.frombuffer(sheets[12].encoded_image_string, np.uint8), cv2.IMREAD_COLOR
    )
    assert sheet.shape[0] > 32
    assert (sheet < 64).any()  # ink


def test_resume_goes_on_exactly(finished, store, tmp_path):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "cut", max_steps=12, device="cpu"
    )
    with pytest.raises(Interrupted, match=r"after step 4.*--resume"):
        core.train(profile(), request, stop=stop_after(4))
    resume = TrainRequest(resume=tmp_path / "cut", device="cpu")
    with pytest.raises(Interrupted):
        core.train(None, resume, stop=stop_after(3))
    result = core.train(None, resume)
    assert (result.steps, result.lines, result.best_cer) == (
        finished.steps,
        finished.lines,
        finished.best_cer,
    )
    for name in ("last.safetensors", "best.safetensors"):
        whole, cut = weights_of(finished.run_dir / name), weights_of(result.run_dir / name)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[key], cut[key]) for key in whole)
    one, other = load_state(finished.run_dir), load_state(result.run_dir)
    assert torch.equal(one["rng"]["cpu"], other["rng"]["cpu"])
    for key in one["optimizer"]["state"]:
        assert all(
            torch.equal(
                one["optimizer"]["state"][key][k], other["optimizer"]["state"][key][k]
            )
            for k in ("exp_avg", "step")
        )
    steps = [
        json.loads(line)["step"]
        for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps)
    assert [session["from_step"] for session in read_run(result.run_dir)["sessions"]][
        :2
    ] == [0, 4]


def test_resume_refuses_another_run(finished, store, tmp_path):
    other = write_store(tmp_path / "other.lmdb", ["12", "34"])
    resume = TrainRequest(resume=finished.run_dir, device="cpu")
    with pytest.raises(
        UsageError, match=r"profile\.train\.lr is 0\.003 there and 0\.002 now"
    ):
        core.train(profile("train.lr=2e-3"), resume)
    with pytest.raises(UsageError, match="train_content_sha256"):
        core.train(None, replace(resume, train=(other,)))
    with pytest.raises(UsageError, match=r"geometry\.max_width is 160 there and 164 now"):
        core.train(profile("geometry.max_width=164"), resume)
    with pytest.raises(UsageError, match="no such run folder"):
        core.train(None, TrainRequest(resume=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="nothing was saved there yet"):
        core.train(None, TrainRequest(resume=tmp_path))


def test_resume_refuses_a_damaged_state(finished, tmp_path):
    copy = shutil.copytree(finished.run_dir, tmp_path / "copy")
    content = bytearray((copy / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "state.pt").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        core.train(None, TrainRequest(resume=copy, device="cpu"))
    (copy / "state.pt.sha256").unlink()
    with pytest.raises(
        ArtifactError, match=r"state\.pt\.sha256 is missing.*copy it too.*--load"
    ):
        core.train(None, TrainRequest(resume=copy, device="cpu"))


def test_load_starts_a_new_run_from_weights(finished, store, tmp_path):
    request = TrainRequest(
        train=(store,),
        val=(store,),
        run_dir=tmp_path / "tuned",
        load=finished.run_dir,
        max_steps=1,
        device="cpu",
    )
    result = core.train(profile("train.lr=1e-9", "train.ema_decay=0"), request)
    started, tuned = (
        weights_of(finished.run_dir / "best.safetensors"),
        weights_of(result.run_dir / "last.safetensors"),
    )
    assert all(
        torch.allclose(started[k], tuned[k], atol=1e-6)
        for k in started
        if "running" not in k and "tracked" not in k
    )
    assert (
        read_contract(result.run_dir / "last.safetensors").parent_sha256
        == read_run(result.run_dir)["loaded"]["sha256"]
    )
    with pytest.raises(UsageError, match="no file or run folder"):
        core.train(
            profile(),
            replace(request, run_dir=tmp_path / "x", load=tmp_path / "nothing.safetensors"),
        )
    with pytest.raises(ArtifactError, match="model options"):
        core.train(
            profile("model.dims=[24, 48, 96]"), replace(request, run_dir=tmp_path / "x")
        )
    assert not (tmp_path / "x").exists()  # nothing is made before everything is checked


def test_load_says_which_options_the_weights_were_trained_with(
    finished, store, tmp_path, heard
):
    request = TrainRequest(
        train=(store,),
        val=(store,),
        run_dir=tmp_path / "x",
        load=finished.run_dir,
        max_steps=1,
        device="cpu",
    )
    dims = json.dumps(list(profile().profile.model.dims))
    for start in (plan_train, core.train):
        with pytest.raises(
            ArtifactError,
            match=re.escape(f"They were trained with --set 'model.dims={dims}'"),
        ):
            start(profile("model.dims=[24, 48, 96]"), request)
    geometry = [
        f"geometry.{key}={value}"
        for key, value in (("max_width", 1792), ("pad_value", 255))
    ]
    other = load_profile("svtrv2-1024", geometry)
    for start in (plan_train, core.train):
        with pytest.raises(
            ArtifactError,
            match="They are of svtrv2-nano, the profile is for svtrv2: take a profile",
        ):
            start(other, request)
    with pytest.raises(
        ArtifactError, match=r"charset mismatch: 45 classes differ.*--move-head"
    ):
        plan_train(profile("charset=nordic-ext"), request)
    assert plan_train(
        profile("charset=nordic-ext"), replace(request, move_head=True, train=(), val=())
    )
    assert not (tmp_path / "x").exists()


def test_weights_that_are_older_than_an_option_were_trained_with_its_default():
    # no attention_rows
    older = {
        "name": "svtrv2-nano",
        "dims": [48, 96, 192],
        "depths": [2, 3, 3],
        "drop_path": 0.1,
    }
    advice = other_options(older, load_profile("svtrv2-nano").profile.model)
    assert (
        advice
        == "They were trained with --set 'model.depths=[2, 3, 3]' --set 'model.attention_rows=2'"
    )


def mamba(*sets):
    small = ("features=32", "layers=1", "d_state=8", "adapter_rank=0")
    return load_profile("mamba-320", [f"model.{option}" for option in (*small, *sets)])


def mamba_request(path, *sets):
    """A training that starts from the weights of such a network, which are written to `path`."""
    trained = mamba(*sets).profile
    table = profile_to_json(trained)
    contract = Contract(trained.load_charset(), trained.geometry, table["model"], table)
    save_weights(path, build_model(trained.model, 126).state_dict(), contract)
    return TrainRequest((), (), path.with_name("run"), load=path, device="cpu")


def test_weights_that_differ_in_an_option_without_effect_are_taken(tmp_path, heard):
    request = mamba_request(tmp_path / "w.safetensors", "use_lora=false", "lora_rank=4")
    resolved = mamba("use_lora=false", "lora_rank=8")
    assert plan_train(resolved, request)

    now = resolved.profile
    network = new_network(now, request, now.load_charset(), now.geometry, heard)
    assert network.loaded.model["lora_rank"] == 4


@pytest.mark.parametrize(
    ("trained", "expected", "advice"),
    [
        (
            ("use_lora=false", "lora_rank=4"),
            ("use_lora=true", "lora_rank=8"),
            "--set 'model.use_lora=false'",
        ),
        (
            ("use_lora=true", "lora_rank=4"),
            ("use_lora=false", "lora_rank=8"),
            "--set 'model.use_lora=true' --set 'model.lora_rank=4'",
        ),
        (("lora_rank=4",), ("lora_rank=8",), "--set 'model.lora_rank=4'"),
    ],
)
def test_weights_of_other_adapters_are_refused_with_the_options_that_matter(
    trained, expected, advice, tmp_path
):
    request = mamba_request(tmp_path / "w.safetensors", *trained)
    with pytest.raises(ArtifactError, match=re.escape(f"trained with {advice}") + "$"):
        plan_train(mamba(*expected), request)


def test_weights_for_another_window_of_the_same_shape_are_not_taken_without_a_word(
    tmp_path, heard
):
    """The shapes of SVTR's weights say nothing of the window of its attention."""
    small = ["geometry.max_width=64", "geometry.pad_value=255"]
    trained = load_profile("svtr-32x128", small).profile
    table = profile_to_json(trained)
    contract = Contract(trained.load_charset(), trained.geometry, table["model"], table)
    save_weights(
        tmp_path / "w.safetensors", build_model(trained.model, 126).state_dict(), contract
    )
    for window, warnings in (("[7, 7]", 0), ("[7, 11]", 1)):
        heard.warnings.clear()
        now = load_profile("svtr-32x128", [*small, f"model.local_window={window}"]).profile
        request = TrainRequest(load=tmp_path / "w.safetensors")
        new_network(now, request, now.load_charset(), now.geometry, heard)
        assert len(heard.warnings) == warnings
    assert (
        "was trained with model.local_window = [7, 7] and continues with [7, 11]"
        in heard.warnings[0]
    )


def test_load_moves_the_head_of_another_charset_only_when_asked(finished, tmp_path, heard):
    store = write_store(tmp_path / "ext.lmdb", ["12", "345"], charset=NORDIC_EXT)
    request = TrainRequest(
        train=(store,),
        val=(store,),
        run_dir=tmp_path / "wide",
        load=finished.run_dir,
        max_steps=1,
        device="cpu",
    )
    wide = profile("charset=nordic-ext", "train.lr=1e-9", "train.ema_decay=0")
    with pytest.raises(
        ArtifactError, match=r"charset mismatch: 45 classes differ.*--move-head"
    ):
        core.train(wide, request)
    with pytest.raises(UsageError, match="give --load"):
        plan_train(wide, replace(request, load=None, move_head=True))
    result = core.train(wide, replace(request, move_head=True), progress=heard)
    assert any(
        "head moved from charset nordic to nordic-ext" in note for note in heard.notes
    )
    assert read_run(result.run_dir)["head"]["from_base"][0] == ["Á", "A"]
    started, tuned = (
        weights_of(finished.run_dir / "best.safetensors"),
        weights_of(result.run_dir / "last.safetensors"),
    )
    assert torch.allclose(
        tuned["classifier.weight"][:126], started["classifier.weight"], atol=1e-6
    )
    assert read_contract(result.run_dir / "last.safetensors").charset.name == "nordic-ext"


def test_guidance_trains_resumes_and_ships_nothing(store, tmp_path, heard):
    sets = [
        "model.size=tiny",
        "train.guidance=smtr",
        "charset=nordic",
        "train.precision=fp32",
        "train.batch_size=2",
    ]
    guided = load_profile(
        "svtrv2-1024",
        [*sets, "geometry.max_width=160", "train.batch_width_px=100", "train.log_every=1"],
    )
    request = TrainRequest(
        train=(store,), val=(store,), max_steps=2, overfit=2, device="cpu"
    )
    whole = core.train(guided, replace(request, run_dir=tmp_path / "whole"), progress=heard)
    assert any(note.startswith("guided by context: ") for note in heard.notes)
    with pytest.raises(Interrupted):
        core.train(guided, replace(request, run_dir=tmp_path / "cut"), stop=stop_after(1))
    resumed = core.train(None, TrainRequest(resume=tmp_path / "cut", device="cpu"))
    one, other = (
        weights_of(result.run_dir / "last.safetensors") for result in (whole, resumed)
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    network, _ = load_model(whole.run_dir / "last.safetensors")
    assert one.keys() == network.state_dict().keys()
    assert (
        load_state(whole.run_dir)["guidance"]["classifier.bias"].abs().max() > 0
    )  # it was zero


def test_a_run_folder_is_never_overwritten(finished, store):
    with pytest.raises(UsageError, match="not empty"):
        core.train(
            profile(),
            TrainRequest(
                train=(store,), val=(store,), run_dir=finished.run_dir, device="cpu"
            ),
        )


def test_a_run_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, not a folder; name another --run-dir"):
        new_run_folder(tmp_path / "file", "demo")
    with pytest.raises(DataError, match="cannot make the run folder .*Not a directory"):
        new_run_folder(tmp_path / "file" / "run", "demo")
    (tmp_path / "runs").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="cannot make the run folder runs"):
        new_run_folder(None, "demo")


def test_an_overfit_verdict_counts_the_lines_that_are_there(store, tmp_path):
    request = TrainRequest(
        train=(store,), overfit=999, run_dir=tmp_path / "o", max_steps=1, device="cpu"
    )
    assert "of 24 lines" in core.train(profile(), request).verdict


def test_overfit_learns_a_few_lines_by_heart(store, tmp_path):
    request = TrainRequest(
        train=(store,),
        overfit=4,
        run_dir=tmp_path / "o",
        max_steps=200,
        device="cpu",
        save_fp16=True,
    )
    # All four lines in one batch: BatchNorm's running statistics say little about batches of one or
    # two lines.
    result = core.train(
        profile("train.eval_every=100", "train.batch_size=16", "train.lr=5e-3"), request
    )
    assert result.best_exact == 1.0
    assert result.verdict.startswith("ok")
    assert read_contract(tmp_path / "o" / "best.fp16.safetensors").precision == "fp16"


def test_epochs_end_a_run_when_nothing_else_does(store, tmp_path):
    result = core.train(
        profile("train.epochs=2"),
        TrainRequest(train=(store,), val=(store,), run_dir=tmp_path / "e", device="cpu"),
    )
    assert result.lines == 2 * 24


def test_a_loss_that_is_not_finite_stops_after_ten_steps(
    store, tmp_path, heard, monkeypatch
):
    monkeypatch.setattr(base, "ctc_loss", lambda logits, *rest: logits.sum() * float("nan"))
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "n", max_steps=50, device="cpu"
    )
    with pytest.raises(DataError, match=r"10 steps in a row.*line-\d+"):
        core.train(profile("train.eval_every=100"), request, progress=heard)
    events = [
        json.loads(line)
        for line in (tmp_path / "n" / "metrics.jsonl").read_text().splitlines()
    ]
    skipped = [event for event in events if event["kind"] == "skipped"]
    assert len(skipped) == 10
    assert all(event["rows"] for event in skipped)


@pytest.fixture
def building(monkeypatch):
    """Call `building(change)` to have `change(network)` done to each network that is built."""
    build = registry.build_model

    def install(change):
        def built(*arguments):
            network = build(*arguments)
            change(network)
            return network

        monkeypatch.setattr(registry, "build_model", built)

    return install


def test_a_line_that_spoils_steps_is_found_and_named(store, tmp_path, heard, building):
    with LineStore(store) as lines:
        widest = int(lines.widths.max())
        damaged = {lines.row(i).id for i in range(len(lines)) if lines.widths[i] == widest}

    def spoil(network, inputs, logits):
        return torch.where((inputs[1] == widest)[:, None, None], torch.nan, logits)

    building(lambda network: network.register_forward_hook(spoil))
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "n", max_steps=500, device="cpu"
    )
    with pytest.raises(
        DataError, match="3 steps with one line were not finite.*do it by themselves: line-"
    ):
        core.train(
            profile(
                "train.eval_every=1000",
                "train.mask_share=1",
                "train.batch_size=8",
                *AS_STORED,
            ),
            request,
            progress=heard,
        )
    events = [
        json.loads(line)
        for line in (tmp_path / "n" / "metrics.jsonl").read_text().splitlines()
    ]
    skipped = [event for event in events if event["kind"] == "skipped"]
    assert skipped
    for event in skipped:
        assert set(event["alone"]) == damaged & set(event["rows"])
    assert any(set(event["alone"]) < set(event["rows"]) for event in skipped)


def test_a_disk_without_room_is_refused_before_a_folder_is_made(
    store, tmp_path, monkeypatch, heard
):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "r", max_steps=4, device="cpu"
    )
    monkeypatch.setattr(room, "free_bytes", lambda folder: 100_000)
    with pytest.raises(
        DataError,
        match=r"too full.*need up to \d MB.*0 MB are free; free disk space, or name another",
    ):
        core.train(profile(), request)
    assert not (tmp_path / "r").exists()
    monkeypatch.setattr(room, "require_disk_space", lambda *_, **__: None)
    core.train(profile(), request, progress=heard)
    assert len([w for w in heard.warnings if "is nearly full" in w]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux'")
@pytest.mark.parametrize("full", ["metrics", "board"])
def test_a_log_on_a_full_disk_ends_the_run_with_its_state_saved(
    store, tmp_path, monkeypatch, full
):
    open_log = runlog.RunLog.__init__

    def open_log_on_full_disk(log, *arguments):
        open_log(log, *arguments)
        (log._metrics if full == "metrics" else log._board._file).close()
        device = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the log closes it
        if full == "metrics":
            log._metrics = device
        else:
            log._board._file = log._board._writer._writer = device

    monkeypatch.setattr(runlog.RunLog, "__init__", open_log_on_full_disk)
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "r", max_steps=4, device="cpu"
    )
    with pytest.raises(
        DataError,
        match=r"cannot write the log.*No space left.*step 2 is saved; when that is fixed.*--resume",
    ):
        core.train(profile(), request)
    monkeypatch.setattr(runlog.RunLog, "__init__", open_log)
    assert core.train(None, TrainRequest(resume=tmp_path / "r", device="cpu")).steps == 4


def test_curves_and_worst_lines_are_left_to_be_seen(store, tmp_path, monkeypatch, heard):
    monkeypatch.setattr(reporting, "can_draw", lambda: True)
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "c", max_steps=4, device="cpu"
    )
    core.train(profile(), request, progress=heard)
    picture = cv2.imread(str(tmp_path / "c" / "curves.png"))
    assert picture.shape == (700, 1100, 3)
    header, *rows = [
        line.split("\t") for line in (tmp_path / "c" / "worst.tsv").read_text().splitlines()
    ]
    assert header == [
        "step",
        "id",
        "class",
        "edits",
        "reference",
        "hypothesis",
        "difference",
    ]
    edits = [int(row[3]) for row in rows]
    assert edits == sorted(edits, reverse=True)
    assert edits[-1] > 0
    assert {row[0] for row in rows} == {"4"}
    assert any(rows[0][1] in note and "→" in note for note in heard.notes)


@pytest.mark.parametrize(("always", "is_reported"), [(BLANK, True), (7, False)])
def test_a_plateau_of_blanks_is_reported(
    store, tmp_path, heard, building, always, is_reported
):
    @building
    def always_the_same(network):
        with torch.no_grad():
            network.classifier.bias[always] = 1e4

    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "b", max_steps=2, device="cpu"
    )
    core.train(
        profile("train.lr=1e-12", "train.warmup_ratio=0", "train.ema_decay=0"),
        request,
        progress=heard,
    )
    assert any("blank plateau" in warning for warning in heard.warnings) == is_reported


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_training_and_evaluation_compute_in_the_precision_asked_for(
    store, tmp_path, building, precision, dtype
):
    seen = set()

    def note(network, _inputs, logits):
        seen.add((network.training, logits.dtype))

    building(lambda network: network.register_forward_hook(note))
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "p", max_steps=1, device="cpu"
    )
    core.train(profile(f"train.precision={precision}"), request)
    assert seen == {(True, dtype), (False, dtype)}


@pytest.fixture
def fp16(monkeypatch):
    """fp16 on this CPU, with its gradient scaler, as on a GPU."""
    monkeypatch.setattr(core, "precision_of", lambda *_: "fp16")


def test_fp16_steps_that_the_scaler_skips_count(store, tmp_path, heard, fp16, monkeypatch):
    # loss 0, every gradient NaN
    monkeypatch.setattr(
        base, "ctc_loss", lambda logits, *_: (logits.float() * 0).sqrt().sum()
    )
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "n", max_steps=30, device="cpu"
    )
    with pytest.raises(DataError, match="10 steps in a row were not finite"):
        core.train(profile("train.eval_every=100"), request, progress=heard)
    # two are the scaler's own search for a scale
    assert len([w for w in heard.warnings if "skipped" in w]) == 8
    assert heard.warnings[0].startswith("--val holds a store of --train")


def test_fp16_lowers_its_scale_and_learns(store, tmp_path, heard, fp16, monkeypatch):
    monkeypatch.setattr(
        torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**30)
    )
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "s", max_steps=40, device="cpu"
    )
    monkeypatch.setattr(watchdogs, "MAX_SKIPPED_IN_A_ROW", 30)
    result = core.train(profile("train.eval_every=100"), request, progress=heard)
    assert 0 < result.skipped < 30
    assert load_state(result.run_dir)["scaler"]["scale"] == 2.0 ** (30 - result.skipped)
    losses = [
        json.loads(line)["loss"]
        for line in (tmp_path / "s" / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_going_on_in_another_precision_is_told(store, tmp_path, heard, fp16):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "p", max_steps=9, device="cpu"
    )
    with pytest.raises(Interrupted), pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "precision_of", lambda *_: "bf16")
        core.train(profile(), request, stop=stop_after(2))
    core.train(None, TrainRequest(resume=tmp_path / "p", device="cpu"), progress=heard)
    assert [w for w in heard.warnings if "computed in bf16 and continues in fp16" in w]


def test_another_length_of_a_resumed_run_is_told(store, tmp_path, heard):
    core.train(
        profile(),
        TrainRequest(
            train=(store,), val=(store,), run_dir=tmp_path / "l", max_steps=2, device="cpu"
        ),
    )
    core.train(None, TrainRequest(resume=tmp_path / "l", device="cpu"), progress=heard)
    assert not heard.warnings
    with pytest.raises(
        UsageError, match=r"is finished.*Start a longer one from its weights: --load"
    ):
        core.train(
            None,
            TrainRequest(resume=tmp_path / "l", max_steps=4, device="cpu"),
            progress=heard,
        )
    assert "to last max_steps 2, and now max_steps 4" in heard.warnings[0]


def test_another_length_stretches_what_is_left_of_the_learning_rate(store, tmp_path):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "l", max_steps=12, device="cpu"
    )
    every_step = profile("train.log_every=1", "train.eval_every=1000")
    with pytest.raises(Interrupted):
        core.train(every_step, request, stop=stop_after(6))
    with pytest.raises(Interrupted):
        # After its tenth step, and to be gone on with as it is now.
        core.train(
            None,
            TrainRequest(resume=tmp_path / "l", max_steps=24, device="cpu"),
            stop=stop_after(4),
        )
    core.train(None, TrainRequest(resume=tmp_path / "l", device="cpu"))
    lines = [
        json.loads(line)
        for line in (tmp_path / "l" / "metrics.jsonl").read_text().splitlines()
    ]
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    assert len(rates) == 24
    steps_down = [before - after for before, after in pairwise(rates[2:])]
    # it only falls, and nowhere jumps
    assert all(0 < step < 0.2 * max(rates) for step in steps_down)
    assert rates[-1] < 0.05 * max(rates)


def test_waiting_for_data_is_told_once(store, tmp_path, heard, monkeypatch):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "w", max_steps=8, device="cpu"
    )
    monkeypatch.setattr(watchdogs, "WAIT_SHARE_TO_WARN", 1.1)
    core.train(profile(), request, progress=heard)
    assert not [w for w in heard.warnings if "waiting for data" in w]
    monkeypatch.setattr(watchdogs, "WAIT_SHARE_TO_WARN", -1.0)
    core.train(profile(), replace(request, run_dir=tmp_path / "w2"), progress=heard)
    assert (
        len(
            [
                w
                for w in heard.warnings
                if "waiting for data" in w and "data.num_workers" in w
            ]
        )
        == 1
    )


def test_a_plan_expects_time_and_memory_of_an_earlier_run(store, finished, tmp_path):
    request = TrainRequest(train=(store,), val=(store,), max_steps=100)
    beside = replace(request, run_dir=finished.run_dir.parent / "next")
    alone = replace(request, run_dir=tmp_path / "next")

    expected = plan_train(profile(), beside).to_json()["train"]["time"]

    assert re.fullmatch(r"about .+, at the [\d.]+ lines/s of .*whole", expected)
    assert "not known" in plan_train(profile(), alone).to_json()["train"]["time"]
    memory = plan_train(profile(), beside).to_json()["train"]["memory"]
    assert re.fullmatch(
        r"about [\d.]+ GB, as .*whole took on cpu with \d+ lines a batch", memory
    )
    assert "not known" in plan_train(profile(), alone).to_json()["train"]["memory"]


def test_a_slow_loader_is_told(store, tmp_path, heard, monkeypatch):
    load = LineBatches._load

    def slow(*arguments):
        time.sleep(0.7)
        return load(*arguments)

    monkeypatch.setattr(LineBatches, "_load", slow)
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "w", max_steps=8, device="cpu"
    )
    core.train(profile("data.num_workers=0"), request, progress=heard)
    assert any("waiting for data" in warning for warning in heard.warnings)


@pytest.mark.parametrize(
    ("metric", "best_step"), [("cer", 4), ("exact", 2), ("character_accuracy", 6)]
)
def test_the_best_checkpoint_is_chosen_by_the_metric(
    store, tmp_path, monkeypatch, metric, best_step
):
    """Of three evaluations each is the best by another metric."""
    figures = [
        {"cer": 0.3, "exact": 0.9, "character_accuracy": 0.7},
        {"cer": 0.1, "exact": 0.5, "character_accuracy": 0.8},
        {"cer": 0.2, "exact": 0.4, "character_accuracy": 0.9},
    ]
    evaluations = iter(figures)

    def evaluated(*arguments):
        rates = next(evaluations)
        found = evaluate_batches(*arguments)
        return replace(found, cer=rates["cer"], exact=rates["exact"], rates=rates)

    monkeypatch.setattr("nordocr_cli.training.loop.evaluate_batches", evaluated)
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / metric, max_steps=6, device="cpu"
    )
    sets = (f"train.best_metric={metric}", "train.eval_every=2")

    result = core.train(profile(*sets), request)

    assert result.best_step == best_step
    assert result.best_cer == figures[best_step // 2 - 1]["cer"]


def test_a_gpu_gets_the_batch_size_of_its_architecture(monkeypatch):
    requested = profile("train.batch_by_arch={sm120 = 9}").profile
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (12, 0))
    assert train_data.lines_per_batch(requested, torch.device("cuda", 0)) == 9
    assert train_data.lines_per_batch(requested, torch.device("cpu")) == 4
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert train_data.lines_per_batch(requested, torch.device("cuda", 0)) == 4


# of 32 to 128 px, 160 px for each line
@pytest.mark.parametrize(("lines", "minimum", "maximum"), [(1, 1, 5), (24, 24, 24)])
def test_a_batch_holds_as_many_pixels_as_the_batch_size_says(
    store, tmp_path, monkeypatch, lines, minimum, maximum
):
    monkeypatch.setattr(train_data, "lines_per_batch", lambda *_: lines)
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "k", max_steps=1, device="cpu"
    )
    requested = profile("train.batch_width_px=160", "augment.pad_right=0")
    assert minimum <= core.train(requested, request).lines <= maximum


def test_a_damaged_run_json_is_named(finished, tmp_path):
    for number, (damage, said) in enumerate(
        [
            (lambda run: run.pop("request"), "request"),
            (lambda run: run["request"].pop("train"), "'train'"),
            (lambda run: run.pop("profile"), "holds no profile"),
            (
                lambda run: run["profile"]["train"].update(curriculum=1),
                "'train.curriculum'.*\n.*[Uu]pdate nordocr",
            ),
        ]
    ):
        copy = shutil.copytree(finished.run_dir, tmp_path / str(number))
        run = read_run(copy)
        damage(run)
        (copy / "run.json").write_text(json.dumps(run))
        with pytest.raises(ArtifactError, match=f"run.json.*{said}"):
            core.train(None, TrainRequest(resume=copy, device="cpu"))
    (copy / "run.json").write_text("[1]")
    with pytest.raises(ArtifactError, match="not a JSON object"):
        core.train(None, TrainRequest(resume=copy, device="cpu"))


def test_missing_data_or_profile_is_said(store):
    with pytest.raises(UsageError, match="--train"):
        core.train(profile(), TrainRequest())
    with pytest.raises(UsageError, match="--val"):
        core.train(profile(), TrainRequest(train=(store,)))
    with pytest.raises(UsageError, match="--profile"):
        core.train(None, TrainRequest(train=(store,), val=(store,)))


def test_fp16_on_a_cpu_says_that_it_is_bf16(store, tmp_path, heard):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "h", max_steps=1, device="cpu"
    )
    core.train(profile("train.precision=fp16"), request, progress=heard)
    assert any("bf16 instead" in warning for warning in heard.warnings)
    assert read_run(tmp_path / "h")["precision"] == "bf16"


def test_what_a_loaded_network_had_learnt_is_remembered_also_by_a_resumed_run(
    finished, store, tmp_path
):
    narrow = write_store(tmp_path / "narrow.lmdb", ["1", "2", "3", "4", "5"])
    request = TrainRequest(
        train=(narrow,),
        val=(narrow,),
        run_dir=tmp_path / "run",
        load=finished.run_dir,
        max_steps=6,
        device="cpu",
    )
    with pytest.raises(Interrupted):
        core.train(profile(), request, stop=stop_after(3))
    core.train(None, TrainRequest(resume=tmp_path / "run", device="cpu"))
    before, after = (
        read_contract(folder / "last.safetensors")
        for folder in (finished.run_dir, tmp_path / "run")
    )
    assert after.trained_widths == before.trained_widths
    assert after.parent_sha256 == sha256_of(finished.run_dir / "best.safetensors")


def test_only_what_the_profile_lets_train_moves(store, tmp_path, heard):
    only = profile("train.trainable=['classifier', 'stage3']", "train.mask_share=1.0")
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "run", max_steps=3
    )
    core.train(only, request, progress=heard)
    torch.manual_seed(only.profile.train.seed)
    fresh, (trained, _) = (
        build_model(only.profile.model, 126).state_dict(),
        load_weights(tmp_path / "run" / "last.safetensors"),
    )
    moved = {
        key.split(".")[0] for key in fresh if not torch.equal(fresh[key], trained[key])
    }
    assert moved == {"classifier", "stage3"}
    assert any("are frozen" in note for note in heard.notes)
    rows = read_run(tmp_path / "run")["freezing"]["rows"]
    assert [row["pattern"] for row in rows] == ["classifier", "stage3"]
    with pytest.raises(UsageError, match="'classifer' matches no parameter"):
        core.train(
            profile("train.trainable=['classifer']"),
            replace(request, run_dir=tmp_path / "other"),
        )
    assert not (tmp_path / "other").exists()


def test_a_run_of_a_version_that_knew_fewer_keys_goes_on(store, tmp_path):
    request = TrainRequest(
        train=(store,), val=(store,), run_dir=tmp_path / "run", max_steps=2
    )
    with pytest.raises(Interrupted):
        core.train(profile(), request, stop=stop_after(1))
    state = load_state(tmp_path / "run")
    del state["schema"], state["identity"]["profile"]["train"]["trainable"], state["limits"]
    save_state(tmp_path / "run", state)
    assert core.train(None, TrainRequest(resume=tmp_path / "run")).steps == 2


def test_a_trial_on_some_lines_is_judged_on_all_of_val(store, tmp_path):
    request = TrainRequest(
        train=(store,),
        val=(store,),
        run_dir=tmp_path / "t",
        max_train_samples=6,
        device="cpu",
    )
    result = core.train(profile("train.epochs=2"), request)
    assert result.lines == 2 * 6
    assert core.train(None, TrainRequest(resume=tmp_path / "t", device="cpu")).lines == 12
    with pytest.raises(UsageError, match="max_train_samples is 6 there and 7 now"):
        core.train(
            None, TrainRequest(resume=tmp_path / "t", max_train_samples=7, device="cpu")
        )


def test_batches_of_a_size_that_was_asked_for_keep_the_learning_rate_meant_for_the_profiles(
    store, tmp_path, heard
):
    request = TrainRequest(
        train=(store,),
        val=(store,),
        run_dir=tmp_path / "b",
        max_steps=1,
        batch_size=1,
        device="cpu",
    )
    core.train(profile(), request, progress=heard)
    assert any(
        "learning rate 1.50e-03: 0.003 times 0.50, for 1 lines a step" in note
        for note in heard.notes
    )
    assert core.train(None, TrainRequest(resume=tmp_path / "b", device="cpu")).steps == 1
    with pytest.raises(UsageError, match="leave --batch-size out"):
        core.train(None, TrainRequest(resume=tmp_path / "b", batch_size=2, device="cpu"))
