"""What a run requires beside files and models, known without importing torch, so that `validate` can tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

from instructalign.config import Config, TrainingConfig
from instructalign.errors import suggest

TRACKERS = {
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub", "mlflow"),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": (),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""What transformers can report to, and the modules that each needs."""

NO_HELDOUT_SENTENCES = (
    "training.evaluate_every asks for the loss on held-out instructions, but fewer than two sentences are held "
    "out: raise instructions.heldout."
)
NO_KNOWN_SENTENCE = (
    "training.kl needs held-out sentences in a known language (languages.known), and there are none: raise "
    "instructions.heldout."
)

_EXTRAS = {"tensorboard": "'instructalign[tensorboard]'"}
_ADVICE = "or leave it out of training.report_to ([] reports nowhere; log.jsonl is always written)"


def trackers(training: TrainingConfig) -> list[str]:
    """What training reports to: as configured, or tensorboard where it is installed."""
    if training.report_to is None:
        return ["tensorboard"] if find_spec("tensorboard") else []
    return training.report_to


def missing_packages(config: Config) -> Iterator[str]:
    """What a run would need and this machine has not installed, a sentence each, with what to install."""
    training, adapter = config.training, config.model.adapter
    if training.optimizer.endswith("8bit") and find_spec("bitsandbytes") is None:
        yield (
            f"training.optimizer: {training.optimizer} needs bitsandbytes, which is not installed: pip install "
            "'instructalign[quantised]'. Or use adafactor, which also keeps less state than adamw."
        )
    if adapter and adapter.quantised and find_spec("bitsandbytes") is None:
        yield (
            "model.adapter.quantised: needs bitsandbytes, which is not installed: pip install "
            "'instructalign[quantised]'"
        )
    for name in trackers(training):
        if name in ("all", "none"):  # transformers' words for whatever is installed, and for nothing
            continue
        if name not in TRACKERS:
            yield f"training.report_to: unknown tracker {name!r}. {suggest(name, sorted(TRACKERS))}"
        elif absent := [module for module in TRACKERS[name] if find_spec(module) is None]:
            yield (
                f"training.report_to: {name} needs {' and '.join(absent)}, which is not installed: pip install "
                f"{' '.join(_EXTRAS.get(module, module.replace('_', '-')) for module in absent)}, {_ADVICE}"
            )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true" and find_spec("deepspeed") is None:
        yield (
            "this run was launched with DeepSpeed, which is not installed: pip install 'instructalign[deepspeed]' "
            "(or launch with configs/accelerate/fsdp2.yaml or ddp.yaml)"
        )
