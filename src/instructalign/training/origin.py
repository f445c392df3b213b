"""What a checkpoint was made from: a run goes on from its own checkpoints alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from instructalign.config import Config
from instructalign.errors import RunFolderError
from instructalign.files import text_hash
from instructalign.mixture import Mixture
from instructalign.mixture.build import Data
from instructalign.mixture.plan import refuse_repeats, settle
from instructalign.progress import Progress
from instructalign.runfolder import FREE, training_hash
from instructalign.training.checkpoint import damaged
from instructalign.training.checks import CHECKED_EXAMPLES
from instructalign.training.model import model_hash
from instructalign.training.tally import TALLY
from instructalign.training.watch import WATCH

ORIGIN = "origin.json"
PLAN = "mixture.json"  # in the run's folder
STATE = "trainer_state.json"  # the Trainer's own, written last
NEEDED = (ORIGIN, STATE, TALLY, WATCH)
WHOLE = ("*.safetensors", "optimizer.pt", "scheduler.pt")  # where no process holds a part alone

_REMOVE_IT = "Remove that folder; training then goes on from the one before, or from the start."


@dataclass(frozen=True, slots=True)
class Origin:
    """Hashes of everything that the weights of a checkpoint depend on, whatever the files are called.

    Attributes:
        model: the base's weights, configuration and tokenizer.
        data: the first examples of the stream, which change with every row that is added, taken out or moved.
        settings: what the configuration says of model and training, without paths.
    """

    model: str
    data: str
    settings: str


_SAYS = {
    "model": "the base model is another one, or its files have changed since",
    "data": "the corpora or the past data have changed since, so the same step would see other examples",
    "settings": "the configuration of model or training is another one",
}


def origin_of(config: Config, data: Data) -> Origin:
    """What the checkpoints of a run are made from."""
    plain = yaml.safe_load(config.to_yaml())
    training = {key: value for key, value in plain["training"].items() if key not in FREE["training"]}
    model = {key: value for key, value in plain["model"].items() if key != "base"}
    examples = (data.mixture[i] for i in range(CHECKED_EXAMPLES))
    return Origin(
        model_hash(config.model.base, config.model.revision),
        text_hash([(example.prompt, example.answer) for example in examples])[:12],
        text_hash([training, model, config.seed])[:12],
    )


def check_origin(checkpoint: Path, origin: Origin) -> None:
    """Sees to it that a checkpoint is whole and this run's own.

    Raises:
        RunFolderError: it is not; the message says what differs.
    """
    missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
    if missing:
        raise RunFolderError(
            f"{checkpoint} is no checkpoint of a run: it has no {' and no '.join(missing)}. {_REMOVE_IT}"
        )
    if broken := damaged(checkpoint):
        raise RunFolderError(f"{checkpoint} is damaged: {', '.join(broken)} cannot be read. {_REMOVE_IT}")
    saved = json.loads((checkpoint / ORIGIN).read_text(encoding="utf-8"))
    reasons = [_SAYS[name] for name, value in asdict(origin).items() if saved.get(name) != value]
    if reasons:
        raise RunFolderError(
            f"{checkpoint} cannot be gone on from: {'; '.join(reasons)}. Put back what it was made from, or start "
            "anew in another folder with --out."
        )


def settle_mixture(config: Config, mixture: Mixture, out: Path, origin: Origin, report: Progress) -> None:
    """Plans the mixture to the end of the run, in a file of the run's folder where it takes long to plan.

    Raises:
        ConfigError: the run needs more past examples than it may show.
    """
    key = text_hash([training_hash(config), *asdict(origin).values()])
    settle(mixture, config.training.steps * config.training.batch_size, out / PLAN, key, report)
    refuse_repeats(config, mixture)


def check_layout(checkpoint: Path, layout: str) -> None:
    """Sees to it that a checkpoint can be read by a run that is launched this way.

    Raises:
        RunFolderError: its optimizer's state is laid out in another way, which would be passed over.
    """
    saved = json.loads((checkpoint / ORIGIN).read_text(encoding="utf-8")).get("layout", "whole")
    if saved != layout:
        ways = {"whole": "one process, or several with DDP", "fsdp": "FSDP", "deepspeed": "DeepSpeed"}
        raise RunFolderError(
            f"{checkpoint} was written by {ways.get(saved, saved)} and this run is launched with {ways[layout]}, "
            "which lays out the optimizer's state in another way. Launch it as before (accelerate launch "
            "--config_file)."
        )
    # Without them the Trainer would begin with empty moments, and say nothing.
    missing = [name for name in WHOLE if layout == "whole" and not any(checkpoint.glob(name))]
    if missing:
        raise RunFolderError(f"{checkpoint} has no {' and no '.join(missing)}. {_REMOVE_IT}")
