import json
from dataclasses import replace

import pytest

from nordocr_cli.artifact.contract import LineConfidence
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import NORDIC, Charset
from nordocr_cli.core import consumer
from nordocr_cli.core.consumer import (
    check_consumer,
    consumer_config,
    require_agreement,
    write_consumer_config,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.models.weights import load_weights, save_weights

# The names are the guide's; the file is ours.
CONFIG_RS = """
pub struct PipelineConfig {
    pub recognize_engine_path: String,
    pub recognize_max_seq_len: usize,
    pub recognize_max_batch: usize,
    pub precision: Precision,
}
impl PipelineConfig {
    // recognize_max_seq_len: 12,
    pub fn dev() -> Self {
        Self {
            recognize_engine_path: "models/model_sm86.engine".into(),
            recognize_max_batch: 64, /* recognize_max_batch: 4096 */
            recognize_max_input_width: 1_792,
            recognize_max_seq_len: 448usize,
            gpu_arch_override: Some("sm_80".to_string()),
            precision: Precision::FP16,
        }
    }
    pub fn production() -> Self {
        Self {
            recognize_engine_path: PathBuf::from("models/model_sm120.engine"),
            recognize_max_batch: 128,
            recognize_max_input_width: 1792,
            recognize_max_seq_len: 448,
            gpu_arch_override: None,
            precision: Precision::FP16,
        }
    }
}
"""


def disagreements(tmp_path, name, text, model, **flags):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return [
        line.removeprefix(str(tmp_path / name))
        for line in check_consumer(tmp_path / name, model, **flags).disagreements
    ]


@pytest.fixture
def engine(tiny_onnx, tmp_path):
    def make(backend, width):
        path = tmp_path / f"m_sm86{'.rtx' if backend == 'tensorrt-rtx' else ''}.engine"
        path.write_bytes(b"ftrt")
        sidecar = {
            "schema": 2,
            "engine": {"name": path.name, "sha256": sha256_of(path)},
            "onnx": {"name": "m.onnx"},
            "arch": "sm86",
            "backend": backend,
            "precision": "fp16",
            "ranges": {"max": {"batch": 8, "width": width}},
            "contract": read_contract(tiny_onnx).to_json(),
        }
        write_sealed_json(path.with_name(path.name + ".json"), sidecar)
        return path

    return make


def test_the_guides_values(tiny_onnx, tiny_checkpoint):
    assert consumer_config(tiny_onnx, "sm86").to_json() == {
        "recognize_model": "SVTRv2",
        "recognize_engine_path": tiny_onnx.with_name("model_sm86.engine").as_posix(),
        "recognize_max_batch": 64,
        "recognize_input_height": 32,
        "recognize_max_input_width": 1792,
        "recognize_max_seq_len": 448,
        "precision": "FP16",
        "gpu_arch_override": "sm_80",
    }
    by_run = consumer_config(tiny_checkpoint.parent)
    assert (by_run.engine_path, by_run.max_batch) == (
        "models/recognize_svtrv2_nano_sm120.engine",
        128,
    )
    rust = by_run.to_rust()
    assert 'recognize_engine_path: "models/recognize_svtrv2_nano_sm120.engine",' in rust
    assert "recognize_max_seq_len: 448, // 1792 / 4" in rust
    # the pipeline has no name for it
    assert "gpu_arch_override" not in consumer_config(tiny_onnx, "t4").to_json()


def test_what_is_written_fits(tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120")
    write_consumer_config(config, tmp_path / "config.json")
    require_agreement(check_consumer(tmp_path / "config.json", tiny_onnx), tiny_onnx)
    assert disagreements(tmp_path, "lines.rs", config.to_rust(), tiny_onnx) == []


def test_each_preset_is_judged_for_its_own_gpu(tiny_onnx, tmp_path):
    assert disagreements(tmp_path, "config.rs", CONFIG_RS, tiny_onnx) == []
    assert check_consumer(tmp_path / "config.rs", tiny_onnx).checked == 12
    wrong = (
        CONFIG_RS.replace("128,", "256,")
        .replace("448usize", "256usize")
        .replace("None", 'Some("sm_80".into())')
    )
    assert disagreements(tmp_path, "config.rs", wrong, tiny_onnx) == [
        ":15: recognize_max_seq_len: 256 frames cover 1024 px; a line of 1792 px needs 448",
        ":23: recognize_max_batch: 256 lines at once; the engine accepts 128",
        ":26: gpu_arch_override: 'sm_80'; the engine is for sm120",
    ]


def test_presets_for_other_gpus_networks_and_engines_are_listed_and_do_not_fail(
    tiny_onnx, tmp_path
):
    source = CONFIG_RS.replace(
        "    pub fn production()",
        """    pub fn parseq() -> Self {
        Self { recognize_model: RecognizeModel::Parseq, ..Self::dev() }
    }
    pub fn old() -> Self {
        Self { recognize_engine_path: "models/model_768_sm86.engine".into(), ..Self::dev() }
    }
    pub fn narrow() -> Self {
        Self { recognize_max_input_width: WIDTH, ..Self::dev() }
    }
    pub fn production()""",
    ).replace("pub struct", "const WIDTH: usize = 768;\npub struct", 1)
    path = tmp_path / "config.rs"
    path.write_text(source, encoding="utf-8")
    found = check_consumer(path, tiny_onnx, "sm86")
    assert {each.name: each.verdict for each in found.presets} == {
        "dev": "fits",
        "parseq": "other",
        "old": "other",
        "narrow": "wrong",
        "production": "other",
    }
    (narrow,) = [each for each in found.presets if each.name == "narrow"]
    assert narrow.reasons == found.disagreements
    assert "768 px: wider lines are squeezed" in narrow.reasons[0]
    assert check_consumer(path, tiny_onnx, preset="dev").disagreements == ()
    (wrong,) = check_consumer(path, tiny_onnx, preset="parseq").disagreements
    assert "'Parseq'; it must be 'SVTRv2'" in wrong
    with pytest.raises(UsageError, match="no preset 'prod'.*did you mean 'production'"):
        check_consumer(path, tiny_onnx, preset="prod")


def test_a_file_in_which_no_preset_loads_the_engine_does_not_fit(tiny_onnx, tmp_path):
    found = disagreements(tmp_path, "config.rs", CONFIG_RS, tiny_onnx, arch="t4")
    assert [line.split(": ")[0] for line in found] == [":10", ":20"]
    assert "is for sm86; requested: sm75" in found[0]


def test_comments_and_strings_of_rust_are_no_settings(tiny_onnx, tmp_path):
    source = CONFIG_RS.replace(
        "recognize_max_batch: 64,",
        "recognize_max_batch: 64, /* /* recognize_max_batch: 1 */ recognize_max_batch: 512, */\n"
        'name: r#"recognize_max_batch: 999"#,',
    )
    assert disagreements(tmp_path, "config.rs", source, tiny_onnx) == []


ENGINE = 'recognize_engine_path: "models/model_sm120.engine"'

# Each is the value of recognize_max_batch, and what the check says; the engine accepts 128.
BATCHES = {
    "32 * 2": "",
    "(64)": "",
    "{ 64 }": "",
    "64_i64 as usize": "",
    "usize::from(64u16)": "",
    "64.into()": "",
    "1 << 6": "",
    "NonZeroUsize::new(small::BATCH).unwrap()": "",
    'std::num::NonZeroU32::new(64).expect("not 0").get() as usize': "",
    "small::BATCH": "",
    "2 * small::BATCH + 1": "129 lines at once",
    "64 * 64": "4096 lines at once",
    "large::BATCH": "4096 lines at once",
    "Some(0x1000)": "4096 lines at once",
    "-5": "-5 lines at once",
    "1 << 2 + 10": "4096 lines at once",
    "NonZeroUsize::new(4096).unwrap()": "4096 lines at once",
    "NonZeroUsize::new(0).unwrap()": "which is known only when the pipeline runs",
    "NonZeroUsize::new(count).unwrap()": "which is known only when the pipeline runs",
    "1 << 99": "which is known only when the pipeline runs",
    "BATCH": "is `BATCH`, which is known only",
    "64 / 0": "is `64/0`, which is known only",
    "count": "is `count`, which is known only",
    "if big { 4096 } else { 64 }": "is `if big{4096}else{64}`",
    'env("BATCH").unwrap_or(64)': "which is known only when the pipeline runs",
    "Self::other().recognize_max_batch": "which is known only when the pipeline runs",
    "64, recognize_normalization: Norm::ImageNet": "the pipeline has no key for it",
}


@pytest.mark.parametrize(("value", "said"), BATCHES.items(), ids=BATCHES)
def test_a_value_is_evaluated_or_said_to_be_unknown(value, said, tiny_onnx, tmp_path):
    source = (
        "mod small { pub const BATCH: usize = 64; } mod large { pub const BATCH: usize = 4096; }"
        f"\nfn new(count: usize) -> Self {{ Self {{ {ENGINE}, recognize_max_batch: {value} }} }}"
    )
    found = disagreements(tmp_path, "config.rs", source, tiny_onnx)
    assert [said in line for line in found] == [True] * bool(said)


# Each is the rest of a config.rs whose preset `good` fits, and what the check says.
PRESETS = {
    "of a test": ("#[cfg(test)] mod t { fn x() { let c = C { recognize_max_batch: 4096 }; } }", ""),
    "of a test with generics": (
        "#[cfg(test)] fn x<T, U>(t: T, u: U) -> C { C { recognize_max_batch: 4096 } }", ""
    ),
    "of a macro's rules": ("macro_rules! m { () => { C { recognize_max_batch: 4096 } } }", ""),
    "a setter": ("fn set(&mut self, n: usize) { self.recognize_max_batch = n; }", ""),
    "a pattern": ("fn v(&self) { let C { recognize_max_batch, precision, .. } = self; }", ""),
    "a comparison": ("fn v(&self) -> bool { self.recognize_max_batch >= 4096 }", ""),
    "another part's precision": (
        f"fn x() -> C {{ C {{ {ENGINE}, detect: D {{ precision: Precision::FP32 }} }} }}", ""
    ),
    "a network of another thing": (f"fn x() -> C {{ let g = Gpu::new(); C {{ {ENGINE} }} }}", ""),
    "a joined path": (
        'fn x() -> C { C { recognize_engine_path: Path::new("models").join("model_sm120.engine"),'
        " recognize_max_batch: 4096 } }",
        "4096 lines",
    ),
    "a concatenated path": (
        'fn x() -> C { C { recognize_engine_path: concat!("model_", "sm120.engine").into(),'
        " recognize_max_batch: 4096 } }",
        "4096 lines",
    ),
    "a method for each key": (
        'fn x() -> C { C::new().recognize_engine_path("model_sm120.engine")'
        ".set_recognize_max_batch(4096) }",
        "4096 lines",
    ),
    "a variable with a type": (
        "fn x() -> C { let recognize_max_batch: usize = 4096;"
        f" C {{ {ENGINE}, recognize_max_batch }} }}",
        "4096 lines",
    ),
    "a change in an if": (
        f"fn x(n: usize) -> C {{ let mut c = C {{ {ENGINE} }};"
        " if n > 1 { c.recognize_max_batch = 4096; } c }",
        "4096 lines",
    ),
    "a field of a feature": (
        f'fn x() -> C {{ C {{ {ENGINE}, #[cfg(feature = "big")] recognize_max_batch: 4096 }} }}',
        "4096 lines",
    ),
}  # fmt: skip


GOOD = f"fn good() -> C {{ C {{ {ENGINE}, recognize_max_batch: 64 }} }}\n"


@pytest.mark.parametrize(("preset", "said"), PRESETS.values(), ids=PRESETS)
def test_what_else_a_config_holds(preset, said, tiny_onnx, tmp_path):
    found = disagreements(tmp_path, "config.rs", GOOD + preset, tiny_onnx)
    assert [said in line for line in found] == [True] * bool(said)


# Each is a preset whose values only the running pipeline knows, and what the check says of it.
COMPUTED = {
    "a path with a variable": (
        'fn x() -> C { C { recognize_engine_path: format!("{stem}.engine"), recognize_max_batch: 64 } }',
        "is `format!('{stem}.engine')`",
    ),
    "an argument": (
        f"fn x(recognize_max_batch: usize) -> C {{ C {{ {ENGINE}, recognize_max_batch }} }}",
        "is `recognize_max_batch`, which is known only",
    ),
    "a change afterwards": (
        f"fn x(n: usize) -> C {{ let mut c = C {{ {ENGINE}, recognize_max_batch: 64 }};"
        " c.recognize_max_batch *= n; c }",
        "is `changed in place`",
    ),
    "a base of another file": (
        f"fn x() -> C {{ C {{ {ENGINE}, ..crate::other::load() }} }}",
        "come from load, which this file does not declare",
    ),
    "arguments over another preset": (
        f"fn x(a: &Args) -> C {{ C {{ {ENGINE}, recognize_max_batch: a.batch.unwrap_or(128),"
        " ..good() } }",
        "is `a.batch.unwrap_or(128)`, which is known only",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("preset", "said"), COMPUTED.values(), ids=COMPUTED)
def test_a_computed_preset_is_refused_only_where_no_other_fits(
    preset, said, tiny_onnx, tmp_path
):
    path = tmp_path / "config.rs"
    path.write_text(GOOD + preset)
    check = check_consumer(path, tiny_onnx)
    assert check.disagreements == ()
    assert any(
        "preset x is not checked" in note or "preset c" in note for note in check.notes
    )
    assert any(said in note for note in check.notes)

    too_large = GOOD.replace("64", "4096")
    found = disagreements(tmp_path, "config.rs", too_large + preset, tiny_onnx)
    assert "4096 lines at once" in found[0]
    other = GOOD.replace("model_sm120", "other_sm120")
    (found,) = disagreements(tmp_path, "config.rs", other + preset, tiny_onnx)
    assert said in found
    assert found.endswith("or another preset alone with --preset")


TEXTS = {
    "ENGINE.to_string()": "",
    "ENGINE.into()": "",
    "String::from(self::ENGINE)": "",
    "PathBuf::from(ENGINE)": "",
    'PathBuf::from(MODELS).join("model_sm120.engine")': "",
    'format!("{MODELS}/model_sm120.engine")': "",
    'format!("{}/{STEM}_sm{}.engine", MODELS, ARCH).into()': "",
    'Path::new(MODELS).join(format!("{STEM}_sm120.engine"))': "",
    'format!("{}/x.engine")': "which is known only when the pipeline runs",
    'format!("{OTHER}/model_sm120.engine")': "which is known only when the pipeline runs",
    'format!("{ARCH:04}_sm120.engine")': "which is known only when the pipeline runs",
    'self.MODELS.join("model_sm120.engine")': "which is known only when the pipeline runs",
    "chosen(ENGINE)": "which is known only when the pipeline runs",
    "KIND.to_string()": "which is known only when the pipeline runs",
    "NONE.join(STEM)": "which is known only when the pipeline runs",
    'format!("{LONG}{LONG}")': "which is known only when the pipeline runs",
    "STEM.to_string()": "this model's engine is",
}


@pytest.mark.parametrize(("value", "said"), TEXTS.items(), ids=TEXTS)
def test_a_path_may_be_made_of_constants_of_the_file(value, said, tiny_onnx, tmp_path):
    source = (
        'const MODELS: &str = "models"; const STEM: &\'static str = "model";'
        ' const ENGINE: &str = concat!("models/", "model_sm120.engine");'
        " const ARCH: u32 = 120; const KIND: Kind = Kind::A;"
        f' const NONE: Option<&str> = None; const LONG: &str = "{"x" * 4000}";'
        f"\nfn new() -> C {{ C {{ recognize_engine_path: {value}, recognize_max_batch: 64 }} }}"
    )
    found = disagreements(tmp_path, "config.rs", source, tiny_onnx)
    assert [said in line for line in found] == [True] * bool(said)


@pytest.mark.parametrize(
    "code",
    [
        "fn run(p: &Pipeline) { p.recognize_lines(&p.crops); }",
        "fn run() { let recognize_ms = time(); log(recognize_ms); }",
        "fn run() { let mut recognize_count: u64 = 0; recognize_count += 1; }",
    ],
)
def test_names_that_only_begin_like_keys_are_no_keys(code, tiny_onnx, tmp_path):
    assert disagreements(tmp_path, "config.rs", GOOD + code, tiny_onnx) == []


@pytest.mark.parametrize(
    "code",
    [
        "fn x() -> C { C::new().with_recognize_normalization(Norm::ImageNet) }",
        "fn x() -> C { let mut c = good(); c.recognize_normalization = 1; c }",
        "fn x() -> C { let recognize_pad_value = 0; C { recognize_pad_value, ..good() } }",
    ],
)
def test_names_that_set_an_unknown_key_are_refused(code, tiny_onnx, tmp_path):
    (found,) = disagreements(tmp_path, "config.rs", GOOD + code, tiny_onnx)
    assert "the pipeline has no key for it" in found


@pytest.mark.parametrize(
    ("change", "field", "theirs"),
    [
        (
            {"normalization": "imagenet"},
            "geometry.normalization is imagenet",
            "v / 127.5 - 1",
        ),
        ({"pad_value": 0}, "geometry.pad_value is 0", "white, 255"),
        ({"pad_value": 128}, "geometry.pad_value is 128", "white, 255"),
        ({"resampler": "area"}, "geometry.resampler is area", "from the corner"),
        ({"over_width": "center-crop"}, "geometry.over_width is center-crop", "squeezes"),
        ({"width_multiple": 8}, "geometry.width_multiple is 8", "a multiple of 4"),
        ({"stride": 8, "width_multiple": 8}, "geometry.stride is 8", "every 4 pixels"),
    ],
)
def test_a_geometry_that_the_pipelines_code_does_not_have_is_refused(
    change, field, theirs, tiny_checkpoint, tmp_path
):
    state, contract = load_weights(tiny_checkpoint)
    model = tmp_path / "w.safetensors"
    save_weights(
        model, state, replace(contract, geometry=replace(contract.geometry, **change))
    )
    config = consumer_config(tiny_checkpoint, "sm120").to_json()
    found = disagreements(tmp_path, "config.json", json.dumps(config), model)
    assert [field in line and theirs in line for line in found].count(True) == 1
    assert "geometry." + next(iter(change)) + "=" in "".join(found)
    with pytest.raises(DataError, match="the pipeline would misread"):
        consumer_config(model)


@pytest.mark.parametrize("network", ["svtr", "mamba", "parseq", "trocr"])
def test_another_network_is_never_written_as_svtrv2(network, tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    model = tmp_path / "w.safetensors"
    lengths = {"max_label_length": 32, "generation_max_length": 64}
    named = {**contract.model, **lengths, "name": network}
    save_weights(model, state, replace(contract, model=named))
    with pytest.raises(
        DataError, match=f"model.name is {network}; the pipeline runs SVTRv2"
    ):
        consumer_config(model)


def test_another_charset_is_compared_with_the_pipelines_file(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    other = Charset("other", NORDIC.characters[::-1])
    model = tmp_path / "w.safetensors"
    save_weights(model, state, replace(contract, charset=other))
    config = consumer_config(tiny_checkpoint, "sm120").to_json()
    (found,) = disagreements(tmp_path, "config.json", json.dumps(config), model)
    assert "charset is other with 126 classes" in found
    assert "class 1: other has '×'" in found
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text(other.to_dict_text(), encoding="utf-8")
    check = check_consumer(tmp_path / "config.json", model, charset=str(dictionary))
    assert check.disagreements == ()


def test_what_changes_confidences_alone_is_a_note(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    model = tmp_path / "w.safetensors"
    save_weights(model, state, replace(contract, temperature=1.5))
    write_consumer_config(consumer_config(model), tmp_path / "config.json")
    check = check_consumer(tmp_path / "config.json", model)
    assert check.disagreements == ()
    assert any("temperature is 1.5" in note for note in check.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"language_model": "nordic"}, "the pipeline decodes greedily without one"),
        ({"trained_widths": (8, 320)}, "trained_widths end at 320 px"),
        ({"line_confidence": LineConfidence(1.0, 1.0)}, "line_confidence is fitted"),
    ],
)
def test_what_the_pipeline_does_less_well_is_a_note(
    change, said, tiny_checkpoint, tmp_path
):
    state, contract = load_weights(tiny_checkpoint)
    model = tmp_path / "w.safetensors"
    save_weights(model, state, replace(contract, **change))
    write_consumer_config(consumer_config(model), tmp_path / "config.json")
    check = check_consumer(tmp_path / "config.json", model)
    assert check.disagreements == ()
    assert [said in note for note in check.notes].count(True) == 1


def test_unknown_keys_of_the_json_are_named(tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120").to_json()
    config |= {
        "recognize_max_bacth": 4,
        "recognise_model": "SVTRv2",
        "detect_engine_path": "d",
    }
    text = json.dumps(config, indent=1)
    found = disagreements(tmp_path, "config.json", text, tiny_onnx)
    assert found == [
        ":10: unknown key 'recognize_max_bacth'; did you mean 'recognize_max_batch'?",
        ":11: unknown key 'recognise_model'; did you mean 'recognize_model'?",
    ]
    check = check_consumer(tmp_path / "config.json", tiny_onnx)
    assert any("not checked: detect_engine_path" in note for note in check.notes)
    (tmp_path / "config.json").write_text('{"precision": "FP16", "precision": "FP32"}')
    with pytest.raises(DataError, match="precision is set twice"):
        check_consumer(tmp_path / "config.json", tiny_onnx)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("RECOGNIZE_MAX_BATCH", "did you mean 'recognize_max_batch'?"),
        ("recognizeMaxBatch", "did you mean 'recognize_max_batch'?"),
        ("max_batch", "did you mean 'recognize_max_batch'?"),
        ("gpu_arch", "did you mean 'gpu_arch_override'?"),
        ("recognize_normalization", "it computes v / 127.5 - 1"),
        ("pad_value", "it pads with white, 255"),
        ("charset", "it has its characters in charset.rs"),
        ("recognize_language", "known: "),
    ],
)
def test_a_key_that_the_pipeline_ignores_is_refused(key, said, tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120").to_json() | {key: 4}
    (found,) = disagreements(tmp_path, "config.json", json.dumps(config), tiny_onnx)
    assert f"unknown key '{key}'" in found
    assert said in found


def test_keys_of_other_parts_are_listed_and_do_not_fail(tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120").to_json()
    config |= {"detect_max_batch": 4, "log_level": "error", "server": {"port": 1}}
    assert disagreements(tmp_path, "config.json", json.dumps(config), tiny_onnx) == []


def test_what_neither_file_nor_check_knows_is_said(tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120").to_json()
    del config["precision"], config["recognize_max_batch"]
    (tmp_path / "c.json").write_text(json.dumps(config))
    notes = check_consumer(tmp_path / "c.json", tiny_onnx).notes
    assert any(
        "not set and so not checked: recognize_max_batch, precision" in note
        for note in notes
    )


def test_a_higher_network_needs_the_key_for_its_height(tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    model = tmp_path / "w.safetensors"
    higher = replace(contract.geometry, height=48)
    save_weights(model, state, replace(contract, geometry=higher))
    config = consumer_config(model, "sm120").to_json()
    assert disagreements(tmp_path, "a.json", json.dumps(config), model) == []
    del config["recognize_input_height"]
    (found,) = disagreements(tmp_path, "b.json", json.dumps(config), model)
    assert "is not set; the default: 32 px; the model reads lines 48 px high" in found


def test_a_model_of_integers_has_no_engine(tiny_onnx, tmp_path, monkeypatch):
    config = consumer_config(tiny_onnx, "sm120").to_json()
    contract = read_contract(tiny_onnx)
    monkeypatch.setattr(
        consumer, "read_contract", lambda path: replace(contract, precision="int8")
    )
    (found,) = disagreements(tmp_path, "config.json", json.dumps(config), tiny_onnx)
    assert "precision is int8, for ONNX Runtime" in found
    with pytest.raises(DataError, match="built from the fp32 or fp16 form"):
        consumer_config(tiny_onnx)


def test_a_config_that_mentions_the_charset_is_a_config(tiny_onnx, tmp_path):
    source = "// as many as CTC_CHARSET has\n" + CONFIG_RS
    assert disagreements(tmp_path, "config.rs", source, tiny_onnx) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"recognize_engine_path": "models/recognize_svtrv2_768_sm120.engine"},
            "this model's engine is",
        ),
        (
            {"recognize_engine_path": "models/model_sm120.rtx.engine"},
            "TensorRT-RTX, which the pipeline cannot load",
        ),
        ({"recognize_input_height": 48}, "48 px; the model reads lines 32 px high"),
        ({"recognize_max_input_width": 1790}, "not a multiple of 4"),
        ({"recognize_max_input_width": 2048}, "the engine accepts 1792"),
        ({"recognize_max_input_width": 768}, "wider lines are squeezed"),
        ({"recognize_max_batch": "64"}, "'64' is not a whole number"),
        ({"precision": "FP32"}, "must be 'FP16'"),
        ({"gpu_arch_override": "sm_86"}, "the pipeline supports sm_80 and sm_120"),
        ({"recognize_model": "PARSeq"}, "must be 'SVTRv2'"),
        ({"recognize_engine_path": None}, "None"),
    ],
)
def test_each_wrong_value_is_named(change, said, tiny_onnx, tmp_path):
    config = consumer_config(tiny_onnx, "sm120").to_json() | change
    found = disagreements(
        tmp_path, "config.json", json.dumps(config, indent=1), tiny_onnx, arch="sm120"
    )
    assert said in found[0]
    with pytest.raises(DataError, match="does not fit"):
        require_agreement(
            check_consumer(tmp_path / "config.json", tiny_onnx, "sm120"), tiny_onnx
        )


def test_what_is_not_set_is_what_the_pipeline_takes(tiny_onnx, tmp_path):
    (found,) = disagreements(
        tmp_path, "config.json", '{"recognize_max_batch": 64}', tiny_onnx
    )
    assert (
        "recognize_engine_path is not set; the default: 'models/recognize_svtrv2_sm120.engine'"
        in found
    )


def test_charset_files(tiny_onnx, tmp_path):
    characters = ", ".join(f"'\\u{{{ord(c):x}}}'" for c in NORDIC.characters)
    rust = f"pub static CTC_CHARSET: &[char] = &[{characters}];"
    assert disagreements(tmp_path, "charset.rs", rust, tiny_onnx) == []
    (found,) = disagreements(
        tmp_path, "charset.rs", rust.replace("'\\u{b1}', ", "'\\u{2026}', "), tiny_onnx
    )
    assert "'…' (U+2026" in found
    assert "nordic has '±'" in found
    assert (
        disagreements(tmp_path, "nordic_dict.txt", NORDIC.to_dict_text(), tiny_onnx) == []
    )


def test_one_of_several_arrays_is_chosen_by_its_line(tiny_onnx, tmp_path):
    characters = ", ".join(f"'\\u{{{ord(c):x}}}'" for c in NORDIC.characters)
    rust = (
        "mod old { pub static CTC_CHARSET: &[char] = &['a']; }\n"
        f"mod new {{ pub static CTC_CHARSET: &[char] = &[{characters}]; }}"
    )
    (tmp_path / "charset.rs").write_text(rust, encoding="utf-8")
    with pytest.raises(DataError, match=r"charset\.rs#1 or .*charset\.rs#2"):
        check_consumer(tmp_path / "charset.rs", tiny_onnx)
    assert check_consumer(tmp_path / "charset.rs#2", tiny_onnx).disagreements == ()
    assert check_consumer(tmp_path / "charset.rs#1", tiny_onnx).disagreements


def test_a_file_and_a_model_with_charsets_of_one_name_are_named_apart(
    tiny_onnx, tmp_path, monkeypatch
):
    contract = read_contract(tiny_onnx)
    of_rust = replace(contract.charset, name="rust:CTC_CHARSET")
    monkeypatch.setattr(
        consumer, "read_contract", lambda path: replace(contract, charset=of_rust)
    )
    rust = "pub static CTC_CHARSET: &[char] = &['a'];"
    found = disagreements(tmp_path, "charset.rs", rust, tiny_onnx)
    assert "rust:CTC_CHARSET has 'a'" in found[0]
    assert "the model's rust:CTC_CHARSET has '0'" in found[0]


def test_an_engine_says_its_own_ranges(engine, tmp_path):
    config = consumer_config(engine("tensorrt", 1792))
    assert (config.max_batch, config.arch, config.precision) == (8, "sm86", "fp16")
    write_consumer_config(config, tmp_path / "c.json")
    assert check_consumer(tmp_path / "c.json", engine("tensorrt", 1792)).disagreements == ()
    with pytest.raises(UsageError, match="is for sm86, not for --arch sm120"):
        consumer_config(engine("tensorrt", 1792), "sm120")
    with pytest.raises(
        UsageError,
        match="which the pipeline cannot load; on its GPU host: nordocr build-engine",
    ):
        consumer_config(engine("tensorrt-rtx", 1792))
    with pytest.raises(UsageError, match="takes lines up to 512 px"):
        consumer_config(engine("tensorrt", 512))


def test_what_is_no_config(tiny_onnx, tmp_path):
    for name, text, said in (
        ("a.json", "{", "not readable JSON"),
        ("a.json", "[1]", "expected one JSON object"),
        ("a.json", '{"detect_engine_path": 1}', "sets none of"),
        ("a.rs", "fn main() {}", "sets none of"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=said):
            check_consumer(tmp_path / name, tiny_onnx)
    with pytest.raises(UsageError, match="no file"):
        check_consumer(tmp_path / "none.rs", tiny_onnx)
    with pytest.raises(UsageError, match="expected the pipeline's config"):
        check_consumer(tmp_path / "a.yaml", tiny_onnx)


@pytest.mark.parametrize(
    "form", [{"input_type": "uint8"}, {"output_activation": "softmax"}]
)
def test_a_form_that_the_pipeline_would_misread_is_refused(form, tiny_checkpoint, tmp_path):
    state, contract = load_weights(tiny_checkpoint)
    save_weights(tmp_path / "w.safetensors", state, replace(contract, **form))
    with pytest.raises(
        DataError, match="the pipeline would misread .*\n.*: export for it with"
    ):
        consumer_config(tmp_path / "w.safetensors")
