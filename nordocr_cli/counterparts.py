"""Keys and options of the programs and guides that nordocr replaces, and their names here."""

# Keys of profiles and of --set. A key also stands for the keys below it.
COUNTERPARTS = {
    "data.transforms": "geometry.height and geometry.max_width",
    "model.architecture_name": "model.name",
    "model.architecture": "model.name",
    "model.model_id": "model.pretrained",
    "trainer.precision": "train.precision",
    "trainer.max_epochs": "train.epochs",
    "trainer.accumulate_grad_batches": "train.accumulate",
    "trainer.gradient_clip_val": "train.grad_clip",
    "trainer.devices": "the option --gpus of nordocr train",
    "trainer": "one of the keys of [train]",
    "data.batch_size": "train.batch_size",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "lr": "train.lr",
    "learning_rate": "train.lr",
    "precision": "train.precision",
    "normalization": "geometry.normalization",
    "max_width": "geometry.max_width",
    "input_height": "geometry.height",
    "max_seq_len": "geometry.max_width, 4 pixels a frame",
    "num_classes": "charset, which has its number of classes",
    "lora_rank": "model.lora_rank",
    "experiment.name": "experiment",
}

# Options of the command line.
OPTIONS = {
    "--checkpoint-path": "the argument MODEL",
    "--model-id": "--set model.pretrained=NAME of the profile trocr-lora",
    "--lora-rank": "--set model.lora_rank=N",
    "--lora-alpha": "--set model.lora_alpha=N",
    "--lora-dropout": "--set model.lora_dropout=X",
    "--lora-target-modules": "--set model.lora_target_modules=[NAME, …]",
    "--max-target-length": "--set model.max_target_length=N",
    "--generation-max-length": "--set model.generation_max_length=N",
    "--train-dataset": "--train STORE, from nordocr prep",
    "--val-dataset": "--val STORE, from nordocr prep",
    "--output-dir": "--run-dir DIR",
    "--epochs": "--set train.epochs=N",
    "--train-batch-size": "--batch-size N",
    "--gradient-accumulation": "--set train.accumulate=N",
    "--gradient-checkpointing": "--set train.checkpointing=true",
    "--learning-rate": "--set train.lr=X",
    "--weight-decay": "--set train.weight_decay=X",
    "--warmup-ratio": "--set train.warmup_ratio=X",
    "--fp16": "--set train.precision=16-mixed",
    "--logging-steps": "--set train.log_every=N",
    "--save-steps": "--set train.save_every=N",
    "--eval-steps": "--set train.eval_every=N",
    "--metric-for-best-model": "--set train.best_metric=NAME",
}


def key_here(dotted: str) -> str:
    """Return the name of another program's key here; "" for an unknown key."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        found = COUNTERPARTS.get(".".join(parts[:count]))
        if found:
            return found
    return ""
