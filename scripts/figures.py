"""The tables of README and docs that follow from saved results."""

import json
from pathlib import Path
from typing import Any

from pages_table import pages_table

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def peers_table() -> str:
    """How well the recognizer that ships reads, next to Tesseract, as a Markdown table."""
    rows = [
        ("448 damaged lines, four languages", "default-on-dev", "tesseract-on-dev"),
        (
            "63 lines with Icelandic accents and the like (`nordocr-default-ext`)",
            "default-ext-on-foreign-dev",
            "tesseract-on-foreign-dev",
        ),
    ]
    lines = [
        "| lines that no training has seen | nordocr | Tesseract 5.3 | in `benchmarks/results/` |",
        "|---|---|---|---|",
    ]
    for what, ours, theirs in rows:
        totals = [_load(name)["report"]["total"] for name in (ours, theirs)]
        exact = " | ".join(_exact(total) for total in totals)
        rates = " | ".join(_cer(total) for total in totals)
        lines.append(f"| {what}: exact | {exact} | `{ours}.json`, `{theirs}.json` |")
        lines.append(f"| the same: CER micro | {rates} | the same |")
    return "\n".join(lines)


def finetune_table() -> str:
    """What `finetune` gained on real scans by the number of labelled lines."""
    lines = [
        "| labelled lines | training | change kept | judged lines of the other half | CER |"
        " relative | exact | verdict | CER of the guard set | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in _arms("finetune"):
        # Earlier trials kept all of it.
        kept = f"{arm['reported'].get('share', 1):.0%}"
        cells = (
            f"{arm['lines']:,} | {_training(arm)} | {kept} | {_gain(arm)} | {_guard(arm)}"
        )
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def _guard(arm: Any) -> str:
    """What a trial did to the guard set of rendered lines."""
    (guard,) = (found for found in arm["reported"]["sets"] if found["name"] == "guard")
    before = _rate(guard["cer_before"])
    after = _rate(guard["cer_after"])
    return f"{before} → {after} | {guard['verdict']}"


def adapt_table() -> str:
    """What `adapt` gained on the same scans without labels, by the number of lines."""
    lines = [
        "| lines without labels | labels by agreement | training |"
        " judged lines of the other half | CER | relative | exact | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in _arms("adapt"):
        if "sets" not in arm:
            lines.append(f"| {arm['lines']:,} | refused: {arm['message']} | | | | | | |")
            continue
        labels = f"{arm['labels']['taken']:,}, CER {arm['labels']['cer_of_labels']:.2%}"
        lines.append(f"| {arm['lines']:,} | {labels} | {_training(arm)} | {_gain(arm)} |")
    return "\n".join(lines)


def estimate_table() -> str:
    """The error rate that adapt estimates without labels, and the true one."""
    lines = [
        "| lines | read with | CER estimated without labels | true CER | PP-OCR | Tesseract |",
        "|---|---|---|---|---|---|",
    ]
    # A trial of more rounds continues one of fewer: the last one of a size holds them all.
    last = {arm["lines"]: arm for arm in _arms("adapt")}
    for arm in last.values():
        labels = arm.get("labels", {})
        engines = labels.get("cer_of_engines", {})
        for number, rates in enumerate(labels.get("cer_by_round", {}).values()):
            weights = (
                "the weights at the start" if number == 0 else f"those of round {number}"
            )
            cells = [
                f"{arm['lines']:,}",
                weights,
                _rate(rates["estimated"]),
                _rate(rates["true"]),
                _rate(engines["ppocr"]),
                _rate(engines["tesseract"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _arms(command: str) -> list[Any]:
    """The trials of a command, most lines last."""
    found = [one for one in _load("finetune")["arms"] if one["arm"].startswith(command)]
    return sorted(found, key=lambda one: one["lines"])


def _training(arm: Any) -> str:
    """The steps of each training of a trial, and the time of all."""
    steps = " + ".join(f"{one['steps']:,}" for one in arm["trained"])
    minutes = sum(one["minutes"] for one in arm["trained"])
    return f"{steps} steps, {minutes:.0f} min"


def lr_table() -> str:
    """What `--lr-range` suggested, and how a grid of rates did."""
    lines = [
        "| task | suggested | result | best rate of the grid | result | within a factor of 3 |"
        " judged by |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in _load("lr-range")["tasks"]:
        best = min(task["grid"], key=lambda one: one["mean"])
        own = task.get("with_suggested")
        if task.get("within_factor_3"):
            near = "of the best"
        elif task.get("within_factor_3_of_tied"):
            near = "of a tied one"
        else:
            near = "no"
        cells = [
            task["task"],
            f"{task['suggested']:.1e}" if own else "none",
            _of_seeds(own) if own else "-",
            f"{task['best']:.1e}",
            _of_seeds(best),
            near,
            {"cer": "CER", "loss": "training loss"}[task["judged_by"]],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _of_seeds(rate: Any) -> str:
    """The mean of a rate's trainings, and their range."""
    return f"{rate['mean']:.4f} ({rate['low']:.4f} to {rate['high']:.4f})"


def others_table() -> str:
    """What the trials with all lines cost elsewhere."""
    names = {
        "print": "print, 19th and 20th century",
        "documents": "rendered business documents",
    }
    lines = ["| trial | lines of | lines | CER | verdict |", "|---|---|---|---|---|"]
    for arm in (*_arms("finetune"), *_arms("adapt")):
        for name, what in names.items():
            found = arm.get("sets", {}).get(name)
            if not found:
                continue
            before = found["before"]
            after = found["after"]
            rates = f"{_rate(before['cer'])} → {_rate(after['cer'])}"
            verdict = after["comparison"]["verdict"]
            lines.append(
                f"| `{arm['arm']}` | {what} | {before['lines']:,} | {rates} | {verdict} |"
            )
    return "\n".join(lines)


def _gain(arm: Any) -> str:
    """The cells that say what a trial gained."""
    judged = arm["sets"]["judge"]
    before = judged["before"]
    after = judged["after"]
    cells = [
        f"{before['lines']:,}",
        f"{_rate(before['cer'])} → {_rate(after['cer'])}",
        f"{after['cer'] / before['cer'] - 1:+.0%}",
        f"{before['exact']:.1%} → {after['exact']:.1%}",
        after["comparison"]["verdict"],
    ]
    return " | ".join(cells)


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 100:.2f} %"


def lines_table() -> str:
    """How the recognizer that ships and Tesseract read, by language, damage and width."""
    ours, theirs = (
        _load(name)["report"] for name in ("default-on-dev", "tesseract-on-dev")
    )
    rows = [_group_row("**all**", ours["total"], theirs["total"])]
    for kind in ("by_language", "by_subset"):
        rows += [
            _group_row(name, ours[kind][name], theirs[kind][name]) for name in ours[kind]
        ]
    # Both read the same lines, but only a network's result tells how wide they are.
    for name, group in ours["by_width"].items():
        rows.append(f"| {name} px | {group['lines']} | {_figures(group)} | | |")
    head = "| lines | n | nordocr-default exact | CER | Tesseract 5.3 exact | CER |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def verdict_line() -> str:
    """The comparison with Tesseract, tested by document, as one sentence."""
    found = _load("default-on-dev")["against"]["comparison"]
    return (
        f"{found['only_b_exact']} lines gained, {found['only_a_exact']} lost; fewer edits in"
        f" {found['documents_better']} of {found['units']} documents. A paired permutation test by"
        f" document gives p = {found['p_exact']:.2g} for exact lines and {found['p_cer']:.2g} for"
        f" CER, so nordocr is {found['verdict']} (p < {found['alpha']:g})."
    )


def executed_table() -> str:
    """What of the GPU proof has run on a CPU and on a GPU, from its saved results."""
    from nordocr_cli.core.gpu_proof.plan import STEPS

    saved = [_saved("gpu-proof-cpu"), _saved("gpu-proof")]
    lines = ["| part | on a CPU, tiny | on a GPU |", "|---|---|---|"]
    for step in STEPS:
        cells = [_step_cell(result, step.name) for result in saved]
        lines.append(f"| {step.what} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", executed_sentence()])


def executed_sentence() -> str:
    """Which GPU has run how much of the GPU proof."""
    gpu = _saved("gpu-proof")
    if gpu is None:
        return "No GPU has run this version yet."
    device = gpu["steps"][0].get("result", {}).get("device", {}).get("name", "a GPU")
    run = sum(status == "run" for status in gpu["branches"].values())
    branches = f"{run} of {len(gpu['branches'])} branches for GPUs"
    return f"On {device}, {gpu['began'][:10]}, nordocr {gpu['nordocr']}: {branches}."


def _saved(name: str) -> Any:
    """A result that may not have been measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _step_cell(result: Any, name: str) -> str:
    steps = {step["name"]: step for step in result["steps"]} if result else {}
    if name not in steps:
        return "not executed"
    step = steps[name]
    if step["status"] == "ok":
        return "executed"
    reason = str(step["reason"]).replace("|", "/")
    return f"{step['status']}: {reason[:60]}"


def pages_tables() -> str:
    """How pages are read, next to other programs."""
    return pages_table(_load("pages"))


def consensus_table() -> str:
    """How often the text that two recognizers share is wrong, as a Markdown table."""
    found = _load("consensus")
    rows = [
        f"| {name} | {pair['share']:.0%} | {pair['wrong']:.1%} | {pair['cer']:.2%} |"
        for name, pair in found["agreed"].items()
    ]
    head = "| who agrees | on lines | of these wrong | CER |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def figures_table() -> str:
    """Speed next to named baselines, as a Markdown table."""
    reading = _load("inference")["paths"]
    prepared = {
        name: found["clock"]["lines_per_s"] for name, found in _load("prep")["sets"].items()
    }
    metrics = _load("metrics")
    report = _load("report")
    report_name = report["what"].removesuffix(", seconds")
    share = metrics["share_of_jiwer"]["processor"]["all"]
    sides = ("nordocr", "limit", "peers")
    rates = {
        side: " and ".join(f"{prepared[kind][side]:,.0f}" for kind in ("rgb", "gray"))
        for side in sides
    }
    ours = ", ".join(
        f"{reading[f'onnxruntime {precision}']['lines_per_s']:.0f} ({precision})"
        for precision in ("int8", "fp32")
    )
    theirs = ", ".join(
        f"{found['lines_per_s']:.0f} ({name})"
        for name, found in reading.items()
        if not name.startswith(("torch", "onnxruntime"))
    )
    rows = [
        (
            "reading lines, files to text on two cores, lines a second",
            ours,
            theirs,
            "inference",
        ),
        (
            "prep, 20,000 JPEG and PNG lines, a second: RGB and gray",
            rates["nordocr"],
            f"OpenCV's decode and resize alone {rates['limit']}; a PIL script as others use"
            f" {rates['peers']}",
            "prep",
        ),
        (
            metrics["what"].partition(",")[0],
            f"{share:.2f} of the time",
            "jiwer's CER and WER alone 1",
            "metrics",
        ),
        (
            report_name,
            f"{report['report_s']['opened']} s",
            "",
            "report",
        ),
    ]
    head = ["| what | nordocr | compared with | saved in |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {a} | {b} | {c} | `{d}.json` |" for a, b, c, d in rows)])


# How docs/accuracy.md names the contestants of benchmarks/inference.py.
_CONTESTANTS = {
    "onnxruntime int8": "ONNX Runtime, int8 (what `predict` takes)",
    "torch bf16": "torch, bf16",
    "onnxruntime argmax": "ONNX Runtime, fp32, best classes in the graph: no language model",
    "onnxruntime fp32": "ONNX Runtime, fp32",
    "torch fp32": "torch, fp32",
    "tesseract": "Tesseract 5.5.4, its library kept open in the process (tesserocr)",
    "tesseract's best models": "the same with its best models, converted to integers",
    "tesseract's program": "Tesseract 5.3.0, Debian's program, fed lists of images",
    "PP-OCRv6 small": "PP-OCRv6 small, the recognizer of the `rapidocr` wheel",
}


def speed_table() -> str:
    """How fast each run time and each other program reads, as a Markdown table."""
    paths = _load("inference")["paths"]
    fastest = paths["onnxruntime int8"]["lines_per_s"]
    lines = [
        "| run time | lines a second | lines a core-second | int8 reads so many times as many |"
        " texts as torch fp32 | exact |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in _CONTESTANTS.items():
        found = paths[name]
        is_ours = name.startswith(("onnxruntime", "torch"))
        same = found["same_text_as_torch_fp32"] if is_ours else ""
        ratio = fastest / found["lines_per_s"]
        rates = (
            f"{found['lines_per_s']:.0f} | {found['lines_per_core_s']:.0f} | {ratio:.1f}"
        )
        lines.append(f"| {title} | {rates} | {same} | {found['exact']} |")
    return "\n".join(lines)


def _group_row(name: str, ours: Any, theirs: Any) -> str:
    return f"| {name} | {ours['lines']} | {_figures(ours)} | {_figures(theirs)} |"


def _figures(group: Any) -> str:
    count = group["lines"] - group["failures"]
    return f"{count} | {100 * group['rates']['cer']:.2f} %"


def _load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _exact(total: Any) -> str:
    interval = total["intervals"]["exact"]
    count = total["lines"] - total["failures"]
    low = 100 * interval["low"]
    high = 100 * interval["high"]
    return f"{count} ({100 * total['rates']['exact']:.1f} %, 95 %: {low:.1f} to {high:.1f})"


def _cer(total: Any) -> str:
    interval = total["intervals"]["cer"]
    low = 100 * interval["low"]
    high = 100 * interval["high"]
    return f"{100 * total['rates']['cer']:.2f} % ({low:.2f} to {high:.2f})"
