"""How far to go from the base: each alpha is measured on what is held out, and one picked by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from instructalign.config import Config
from instructalign.errors import ConfigError
from instructalign.evaluation import evaluate
from instructalign.evaluation.tasks import Task, load_task, validation_task
from instructalign.mixture import load_replay
from instructalign.mixture.training_data import Data, build_data
from instructalign.pipeline import guard
from instructalign.progress import Progress, silent
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel, load_configured
from instructalign.training.monitors import answer_loss, validation_loss
from instructalign.training.strategies.calibration_examples import known_sentences
from instructalign.types import Instruction

PAST = 256
"""How many past examples, or sentences in the known languages, the loss on L1 is measured on."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a model is worth on held-out data; more is better.

    Attributes:
        known: on the known languages (L1).
        new: on the new languages (L2).
    """

    known: float
    new: float


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What alphas are measured by.

    Attributes:
        what: in words, for people and for the record.
        measure: from a model's folder or name, and a folder for what comes up on the way, to its worth.
    """

    what: str
    measure: Callable[[str, Path], Worth]


def pick(worths: Mapping[float, Worth], base: Worth, keep: float) -> float:
    """The alpha with the most on L2 among those that lose at most `keep` of the base on L1.

    Where all lose more, the one that loses least. Of equals, the one nearest to the base.

    Args:
        worths: by alpha.
        base: what the base itself is worth.
        keep: how much of L1 may be lost.
    """
    keeping = [alpha for alpha in sorted(worths) if worths[alpha].known >= base.known - keep]
    if keeping:
        return max(keeping, key=lambda alpha: worths[alpha].new)
    return max(sorted(worths), key=lambda alpha: worths[alpha].known)


def shortfalls(worths: Mapping[float, Worth], base: Worth, keep: float) -> list[str]:
    """What the alpha that `pick` gives falls short of, a sentence each; none where it keeps L1 and gains on L2."""
    alpha = pick(worths, base, keep)
    chosen, said = worths[alpha], []
    if chosen.known < base.known - keep:
        lost = base.known - chosen.known
        said.append(f"no alpha kept L1 within {keep:g}; {alpha:g} lost least ({lost:.4f})")
    if all(worth.new <= base.new for worth in worths.values()):
        said.append("no alpha is better than the base on L2")
    elif chosen.new <= base.new:
        said.append(f"alpha {alpha:g} is no better than the base on L2; those that are lost more of L1")
    return said


def yardstick(config: Config, work: Path, report: Progress = silent) -> Yardstick:
    """The measure that a configuration allows: never the test items.

    Where every classification task of the configuration has validation data, that is used: the mean weighted F1
    over tasks, by group of languages. Otherwise the loss on what training did not see (with its sign turned, in
    nats a token): on instructions made of held-out sentences for L2; for L1 on past examples that were not chosen
    for replay, or, where there are none, on held-out sentences in the known languages.

    Args:
        config: says which tasks, or which corpora and past data.
        work: a folder to write to.
        report: told what is under way.

    Raises:
        ConfigError: nothing is held out.
    """
    tasks = [load_task(name) for name in config.evaluation.tasks]
    files = [validation_task(name, work / "tasks") for name in config.evaluation.tasks]
    usable = [path for path in files if path is not None]
    if usable and len(usable) == sum(isinstance(task, Task) for task in tasks):
        names = ", ".join(task.name for task in tasks if isinstance(task, Task))
        return Yardstick(f"weighted F1 on the validation data of {names}", _by_tasks(config, usable, report))
    return _by_loss(config, report)


def _by_tasks(config: Config, files: list[Path], report: Progress) -> Callable[[str, Path], Worth]:
    groups = [*config.languages.known, *config.languages.new]
    languages = [code for code in config.evaluation.languages or groups if config.languages.group_of(code) != "L3"]
    # Languages that were named must be in the tasks; so they are named only where the user did.
    asked = languages if config.evaluation.languages else None
    settings = config.evaluation.model_copy(
        update={"tasks": [str(path) for path in files], "languages": asked, "bootstrap": 0}
    )
    changed = config.model_copy(update={"evaluation": settings})

    def measure(model: str, folder: Path) -> Worth:
        scores = evaluate(model, changed, folder, run="merged", progress=report)
        values = [score for score in scores if score.metric == "f1_weighted" and not score.language]

        def mean(group: str) -> float:
            found = [score.value for score in values if score.group == group and score.run == "merged"]
            if not found:
                raise ConfigError([f"evaluation.tasks: no validation item in a language of {group} to choose by"])
            return fmean(found)

        return Worth(mean("L1"), mean("L2"))

    return measure


def _by_loss(config: Config, report: Progress) -> Yardstick:
    data = build_data(config, guard(config), report)
    if len(data.heldout) < 2:
        raise ConfigError(
            [
                "instructions.heldout: no sentences are held out to choose an alpha by; hold out two at least, or "
                "name tasks that have validation data under evaluation.tasks"
            ]
        )
    past, what = _unseen(config, data)

    def measure(model: str, folder: Path) -> Worth:
        loaded = load_configured(config.model, None if model == config.model.base else model)
        encoder = ExampleEncoder(loaded.codec, config.training.max_length)
        new = validation_loss(config, data, encoder, loaded)
        return Worth(-_loss(past, encoder, loaded), -(new(loaded.model) if new else 0.0))

    return Yardstick(f"loss on held-out instructions (L2) and on {what} (L1), sign turned", measure)


def _loss(examples: list[Instruction], encoder: ExampleEncoder, loaded: LoadedModel) -> float:
    return answer_loss(examples, encoder, loaded.encoder_decoder)(loaded.model)


def _unseen(config: Config, data: Data) -> tuple[list[Instruction], str]:
    """What the model knew and training did not see, and what to call it."""
    if config.replay and config.replay.size:
        size = config.replay.size
        more = load_replay(
            config.replay.model_copy(update={"size": size + PAST}), config.seed, config.model, made=size
        )
        seen = {(example.prompt, example.answer) for example in data.replay.examples}
        unseen = [example for example in more.examples if (example.prompt, example.answer) not in seen]
        if unseen:
            return unseen[:PAST], "past examples that were not replayed"
    sentences = known_sentences(data.heldout, config.languages.known, config.seed, PAST)
    if not sentences:
        raise ConfigError(
            [
                "instructions.heldout: no held-out sentence is in a known language, and no past examples are left "
                "beyond those replayed; lower replay.size, or hold out more"
            ]
        )
    return sentences, "held-out sentences in the known languages"
