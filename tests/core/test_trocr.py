"""TrOCR through the complete chain: trained on a line store, read, resumed, merged, refused where it
cannot go.
"""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.export.plan import plan_export
from nordocr_cli.core.merge_lora import merge_adapters, plan_merge
from nordocr_cli.core.predict.run import predict
from nordocr_cli.core.train.plan import plan_train
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.data.batches import LineBatches
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.weights import load_model
from nordocr_cli.profile import load_profile
from nordocr_cli.records import LineRow
from nordocr_cli.runtime.recognizers import TextSearch, open_recognizer
from nordocr_cli.runtime.runners import open_runner

TEXTS = ["7", "12", "45", "3", "90", "88", "6", "21"]


def line(text):
    image = np.full((32, 20 + 20 * len(text), 3), 255, np.uint8)
    cv2.putText(image, text, (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    return image


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("trocr-lines") / "digits.lmdb"
    with LineStoreWriter(path, Geometry(max_width=160), NORDIC) as writer:
        for number, text in enumerate(TEXTS):
            writer.add(
                line(text),
                LineRow(
                    id=f"line-{number}", image=f"{number}.png", text=text, language="sv"
                ),
            )
    return path


def profile_of(folder, *sets):
    return load_profile(
        "trocr-lora",
        [
            f"model.pretrained={folder}",
            *(
                "model.max_target_length=32",
                "model.generation_max_length=8",
                "geometry.height=32",
                "geometry.max_width=160",
            ),
            *(
                "train.batch_size=8",
                "train.accumulate=1",
                "train.precision=fp32",
                "train.log_every=1",
                "train.lr=3e-3",
            ),
            *sets,
        ],
    )


@pytest.fixture(scope="module")
def run(tiny_trocr, store, tmp_path_factory):
    """Three steps of LoRA."""
    folder = tmp_path_factory.mktemp("trocr-run") / "a"
    request = TrainRequest((store,), (store,), folder, max_steps=3, threads=1, device="cpu")
    return train(profile_of(tiny_trocr), request)


@pytest.fixture(scope="module")
def learnt(tiny_trocr, store, tmp_path_factory):
    """Eight lines memorized, everything training: a random network cannot learn through
    adapters alone.
    """
    folder = tmp_path_factory.mktemp("trocr-learnt") / "a"
    request = TrainRequest(
        (store,), (), folder, overfit=8, max_steps=130, threads=1, device="cpu"
    )
    profile = profile_of(
        tiny_trocr, "model.lora_rank=0", "train.lr=2e-3", "train.checkpointing=false"
    )
    return train(profile, request)


def texts(model, **options):
    recognizer = open_recognizer(model, device="cpu", threads=1, **options)
    return [reading.text for reading in recognizer.recognize(list(map(line, TEXTS)))]


def test_eight_lines_are_memorized_and_read_again_by_every_reader(learnt, store):
    assert learnt.verdict.startswith("ok")
    assert texts(learnt.run_dir) == TEXTS
    assert texts(learnt.run_dir, decoder="beam", search=TextSearch(beam_width=3)) == TEXTS
    result = evaluate(
        str(learnt.run_dir),
        store,
        device="cpu",
        threads=1,
        decoder="greedy,beam",
        check_batches=True,
    )
    assert result.report.total.exact == 8
    assert (result.ablations[0].decoder, result.ablations[0].total.exact) == ("beam", 8)
    assert not result.batches.problem
    assert result.calibration is not None


def test_predict_reads_images_with_it(learnt, tmp_path):
    for text in TEXTS[:2]:
        cv2.imwrite(str(tmp_path / f"{text}.png"), line(text))
    pages = list(predict([tmp_path], str(learnt.run_dir), device="cpu", threads=1).pages)
    assert {page.source.stem: page.lines[0].reading.text for page in pages} == {
        text: text for text in TEXTS[:2]
    }


def test_a_run_says_what_it_adapted_and_keeps_little(run, tiny_trocr):
    facts = json.loads((run.run_dir / "run.json").read_text(encoding="utf-8"))
    assert facts["trocr"]["tokens"] == {"start": 2, "pad": 1, "end": 2}
    assert facts["trocr"]["adapted"][0] == {
        "pattern": "q_proj",
        "encoder": 2,
        "decoder": 4,
        "parameters": 3072,
    }
    base = (tiny_trocr / "model.safetensors").stat().st_size
    assert (run.run_dir / "best.safetensors").stat().st_size < base / 3
    _, contract = load_model(run.run_dir)
    assert contract.decoding == "seq2seq"
    assert contract.model["pretrained"] == str(tiny_trocr)
    assert len(contract.model["pretrained_sha256"]) == 64


def test_the_adapters_apart_are_read_by_peft(run, tiny_trocr):
    import torch
    from peft import PeftModel
    from transformers import VisionEncoderDecoderModel

    ours, _ = load_model(run.run_dir)
    theirs = PeftModel.from_pretrained(
        VisionEncoderDecoderModel.from_pretrained(tiny_trocr), run.run_dir / "adapter"
    ).eval()
    inputs = {
        "pixel_values": torch.rand(1, 3, 32, 32),
        "decoder_input_ids": torch.tensor([[2, 9, 8]]),
    }
    with torch.no_grad():
        torch.testing.assert_close(theirs(**inputs).logits, ours.network(**inputs).logits)
        with theirs.disable_adapter():
            assert not torch.equal(theirs(**inputs).logits, ours.network(**inputs).logits)


@pytest.mark.parametrize("which", ["run", "learnt"])
def test_merged_the_folder_reads_the_same_here_and_in_transformers(
    request, which, tmp_path, heard, valid_output
):
    import torch
    from transformers import AutoTokenizer, VisionEncoderDecoderModel

    source = request.getfixturevalue(which).run_dir
    result = merge_adapters(plan_merge(source, tmp_path / "merged"), heard)
    valid_output("merge-lora", result.to_json())
    assert {
        "best.safetensors",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    } <= set(result.files)
    assert result.max_diff < 1e-5
    before, after = (
        open_recognizer(path, device="cpu", threads=1)
        for path in (source, tmp_path / "merged")
    )
    crops = list(map(line, TEXTS))
    for one, other in zip(before.recognize(crops), after.recognize(crops), strict=True):
        assert other.text == one.text
        assert other.confidence == pytest.approx(one.confidence, rel=1e-4)
    if which == "learnt":
        from nordocr_cli.models.trocr.network import stretched_lines

        plain = VisionEncoderDecoderModel.from_pretrained(tmp_path / "merged").eval()
        pixels = torch.from_numpy(crops[1]).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            ids = plain.generate(stretched_lines(pixels, None, (32, 32)), max_length=8)
        assert (
            AutoTokenizer.from_pretrained(tmp_path / "merged").decode(
                ids[0], skip_special_tokens=True
            )
            == TEXTS[1]
        )
    with pytest.raises(UsageError, match="already merged"):
        plan_merge(tmp_path / "merged", tmp_path / "again")
    with pytest.raises(UsageError, match="already exists"):
        plan_merge(source, tmp_path / "merged")


def test_a_run_goes_on_and_starts_another_on_the_same_network_only(
    run, tiny_trocr, store, tmp_path
):
    import shutil

    from safetensors.torch import load_file, save_file

    copied = shutil.copytree(run.run_dir, tmp_path / "a")
    assert train(None, TrainRequest(resume=copied, max_steps=3, device="cpu")).steps == 3
    request = TrainRequest(
        (store,),
        (store,),
        tmp_path / "b",
        load=copied,
        max_steps=1,
        threads=1,
        device="cpu",
    )
    assert train(profile_of(tiny_trocr), request).steps == 1
    other = shutil.copytree(tiny_trocr, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["encoder.layernorm.bias"] += 1.0
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="trained on another pretrained network"):
        train(
            profile_of(other),
            TrainRequest(
                (store,), (store,), tmp_path / "c", load=copied, max_steps=1, device="cpu"
            ),
        )
    assert not (tmp_path / "c").exists()


def test_a_moved_folder_is_found_beside_the_weights(run, tiny_trocr, tmp_path):
    import shutil

    from nordocr_cli.models.weights import load_weights, save_weights

    state, contract = load_weights(run.run_dir)
    gone = {**contract.model, "pretrained": "/gone/trocr"}
    save_weights(tmp_path / "best.safetensors", state, replace(contract, model=gone))
    with pytest.raises(
        UsageError,
        match=rf"no folder /gone/trocr.*or a link to it, at {tmp_path}/pretrained",
    ):
        load_model(tmp_path)
    shutil.copytree(tiny_trocr, tmp_path / "pretrained")
    assert load_model(tmp_path)[0].folder.path == tmp_path / "pretrained"


def test_labels_that_cannot_be_written_and_lines_that_are_crushed(
    tiny_trocr, store, tmp_path, heard
):
    request = TrainRequest(
        (store,), (store,), tmp_path / "a", max_steps=1, threads=1, device="cpu"
    )
    with pytest.raises(
        DataError, match=r"row 'line-1' has 2 characters, the network writes 1"
    ):
        train(profile_of(tiny_trocr, "model.max_target_length=2"), request)
    signs = tmp_path / "signs.lmdb"
    with LineStoreWriter(signs, Geometry(max_width=160), NORDIC) as writer:
        writer.add(line("1"), LineRow(id="euro", image="euro.png", text="€€"))
    with pytest.raises(
        DataError, match=r"row 'euro' needs 7 tokens, model.max_target_length is 6"
    ):
        train(
            profile_of(tiny_trocr, "model.max_target_length=6"),
            replace(request, train=(signs,)),
        )
    long = tmp_path / "long.lmdb"
    with LineStoreWriter(long, Geometry(max_width=160), NORDIC) as writer:
        writer.add(line("123456"), LineRow(id="long", image="long.png", text="123456"))
    train(
        profile_of(tiny_trocr),
        TrainRequest((long,), (store,), tmp_path / "b", max_steps=1, device="cpu"),
        progress=heard,
    )
    assert "1 of 1 lines have more than 4 characters: in an image of 32x32 px" in "\n".join(
        heard.warnings
    )


def test_a_dry_run_judges_the_folder_without_torch(tiny_trocr, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds another network"):
        plan_train(profile_of(tmp_path), TrainRequest())
    with pytest.raises(
        UsageError, match="generation_max_length 65 is beyond the 64 positions"
    ):
        plan_train(profile_of(tiny_trocr, "model.generation_max_length=65"), TrainRequest())
    planned = plan_train(profile_of(tiny_trocr), TrainRequest()).to_json()
    assert planned["lines_a_batch"] == {"any": {"2048 px": 8}}


def test_what_it_cannot_do_is_refused(run, tiny_run, tmp_path):
    with pytest.raises(
        UsageError, match=r"no ONNX file or engine here. `nordocr merge-lora"
    ):
        plan_export(run.run_dir)
    with pytest.raises(UsageError, match="generates its text"):
        open_runner(run.run_dir / "best.safetensors")
    with pytest.raises(UsageError, match="--decoder nar is PARSeq's"):
        open_recognizer(run.run_dir, decoder="nar")
    with pytest.raises(UsageError, match="is a svtrv2-nano, and merge-lora is for trocr"):
        plan_merge(tiny_run, tmp_path / "x")


def test_a_batch_holds_as_many_lines_whatever_their_width(store):
    """Each is as large a square to the network; by their pixels, more narrow ones would go into
    one.
    """
    with LineStore(store) as opened:
        for line_px, counts in ((None, [3, 3, 2]), (100, [2, 2, 2, 2])):
            settings = BatchOptions(
                budget_px=200, line_px=line_px, workers=0, label_limit=9
            )
            batches = LineBatches([opened], NORDIC, Geometry(max_width=160), settings)
            assert [len(batch) for batch in batches.epoch(0)] == counts
