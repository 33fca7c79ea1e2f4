"""The commands: name, topic in the help, place in the code, and summary.

The help of `nordocr` is printed from this table, and a command's module is imported only when the
command is used. A test compares each summary with the first sentence of the command's docstring.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEntry:
    """One command. `place` is `MODULE:NAME` below `nordocr_cli.commands`; NAME is the function of
    the command, or the Typer app of a group of commands.
    """

    name: str
    place: str
    summary: str


# The topics in the order of the help, each with its commands in the order of the help.
COMMANDS: dict[str, tuple[CommandEntry, ...]] = {
    "Read": (
        CommandEntry(
            "read",
            "predict:predict",
            "Read pages (scans, photographs, TIFF, PDF), or images of one line of text.",
        ),
        CommandEntry(
            "serve",
            "serve:serve",
            "Serve a page on which documents are dropped, read, corrected and downloaded.",
        ),
        CommandEntry(
            "watch",
            "watch:watch",
            "Read every document that appears in a folder into another folder.",
        ),
        CommandEntry(
            "predict",
            "predict:predict",
            "The same as read.",
        ),
        CommandEntry(
            "models",
            "models:app",
            "List, show and add recognizers by name.",
        ),
    ),
    "Data": (
        CommandEntry(
            "prep",
            "prep:prep",
            "Scale labelled line images once and write them to a line store.",
        ),
        CommandEntry(
            "synth",
            "synth:synth",
            "Render lines of Nordic business documents, damaged as scans are, for training.",
        ),
        CommandEntry(
            "data",
            "data:app",
            "Look into line stores, check, join and unpack them.",
        ),
    ),
    "Train": (
        CommandEntry(
            "train",
            "train:train",
            "Train on line stores; the best checkpoint by CER on --val and the last one are "
            "kept.",
        ),
        CommandEntry(
            "finetune",
            "finetune:finetune",
            "Fine-tune a recognizer on your own labelled lines, and compare it with the one "
            "before.",
        ),
        CommandEntry(
            "adapt",
            "adapt:adapt",
            "Adapt a recognizer to scans without labels.",
        ),
        CommandEntry(
            "recipe",
            "recipe:recipe",
            "Run the stages of a recipe that are not done yet.",
        ),
        CommandEntry(
            "runs",
            "runs:runs",
            "List the runs below ROOT with their best CER, or show how two configurations "
            "differ.",
        ),
        CommandEntry(
            "import",
            "import_:import_",
            "Import a checkpoint of OpenOCR's SVTR or SVTRv2, or of PARSeq.",
        ),
        CommandEntry(
            "merge-lora",
            "merge_lora:merge_lora",
            "Merge a TrOCR's adapters into its weights, and write one folder.",
        ),
        CommandEntry(
            "promote",
            "promote:promote",
            "Copy the best weights of a run to promoted/RUN.safetensors (or -o) when every "
            "gate holds.",
        ),
        CommandEntry(
            "clean",
            "clean:clean",
            "List and delete what finished runs no longer need, by kind.",
        ),
    ),
    "Deploy": (
        CommandEntry(
            "export",
            "export:export",
            "Export trained weights to ONNX, compared with torch at many widths and batch "
            "sizes.",
        ),
        CommandEntry(
            "build-engine",
            "build_engine:build_engine",
            "Build one engine per GPU from an ONNX model, with the profile's range of batch "
            "sizes and widths.",
        ),
        CommandEntry(
            "advise",
            "advise:advise",
            "Propose an engine's batch sizes and widths from the widths of your lines.",
        ),
        CommandEntry(
            "lineage",
            "lineage:lineage",
            "Follow checkpoint, weights, ONNX, engine, result and report from hashes alone.",
        ),
        CommandEntry(
            "contract",
            "contract:app",
            "Show and compare the contracts of models, engines and charset files.",
        ),
        CommandEntry(
            "consumer",
            "consumer:app",
            "Write and check the Rust pipeline's configuration for a model.",
        ),
    ),
    "Compare": (
        CommandEntry(
            "eval",
            "eval:eval_",
            "Score a recognizer, or a recorded result, on a line store.",
        ),
        CommandEntry(
            "bench",
            "bench:bench",
            "Time recognizers side by side over the same lines, and count the lines that "
            "they read alike.",
        ),
        CommandEntry(
            "compare3way",
            "compare3way:compare3way",
            "Compare two engines on a document, line by line, with a reference.",
        ),
        CommandEntry(
            "leaderboard",
            "leaderboard:leaderboard",
            "Rank evaluations by CER, as Markdown, one table for each line store.",
        ),
        CommandEntry(
            "report",
            "report:app",
            "Write pages about a model from saved results.",
        ),
    ),
    "Tools": (
        CommandEntry(
            "doctor",
            "doctor:doctor",
            "Check the installation: libraries, programs, GPU, PATH, variables, disk.",
        ),
        CommandEntry(
            "profiles",
            "profiles:app",
            "List, show and check profiles.",
        ),
        CommandEntry(
            "charset",
            "charset:app",
            "Show, write, check and compare character sets; move weights between them.",
        ),
        CommandEntry(
            "completions",
            "completions:app",
            "Show or install completion for your shell.",
        ),
    ),
}
