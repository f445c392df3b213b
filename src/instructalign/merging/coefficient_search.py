"""Choosing the interpolation coefficient alpha on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from instructalign.config import Config
from instructalign.errors import ConfigError
from instructalign.evaluation import evaluate
from instructalign.evaluation.task_selection import TaskSelection, plan_task
from instructalign.evaluation.tasks import Task, load_task
from instructalign.mixture import load_replay
from instructalign.mixture.training_data import TrainingData, prepare_data
from instructalign.pipeline import contamination_check
from instructalign.progress import Progress, silent
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import load_model
from instructalign.training.monitors import answer_loss, validation_loss
from instructalign.training.strategies.calibration_examples import known_sentences
from instructalign.types import Instruction

_MAX_EXAMPLES = 256  # replay examples or sentences that the loss on L1 is measured on


@dataclass(frozen=True, slots=True)
class HeldOutScore:
    """A model's score on held-out data; higher is better.

    Attributes:
        known: on the known languages (L1).
        new: on the new languages (L2).
    """

    known: float
    new: float


@dataclass(frozen=True, slots=True)
class Criterion:
    """What the coefficient is chosen by.

    Attributes:
        description: in words, for users and for merge.json.
        measure: from a model's folder or name, and a folder for intermediate files, to its score.
    """

    description: str
    measure: Callable[[str, Path], HeldOutScore]


def choose_alpha(scores: Mapping[float, HeldOutScore], base: HeldOutScore, keep: float) -> float:
    """The alpha with the highest score on L2 among those that lose at most `keep` of the base on L1.

    If all lose more, the one that loses least; among equals, the one nearest to the base.

    Args:
        scores: by alpha.
        base: the base's score.
        keep: the maximum loss on L1.
    """
    keeping = [alpha for alpha in sorted(scores) if scores[alpha].known >= base.known - keep]
    if keeping:
        return max(keeping, key=lambda alpha: scores[alpha].new)
    return max(sorted(scores), key=lambda alpha: scores[alpha].known)


def shortfalls(scores: Mapping[float, HeldOutScore], base: HeldOutScore, keep: float) -> list[str]:
    """Where the chosen alpha falls short, one sentence each; none if it keeps L1 and gains on L2."""
    alpha = choose_alpha(scores, base, keep)
    chosen, problems = scores[alpha], []
    if chosen.known < base.known - keep:
        lost = base.known - chosen.known
        problems.append(f"no alpha kept L1 within {keep:g}; {alpha:g} lost least ({lost:.4f})")
    if all(score.new <= base.new for score in scores.values()):
        problems.append("no alpha is better than the base on L2")
    elif chosen.new <= base.new:
        problems.append(f"alpha {alpha:g} is no better than the base on L2; those that are lost more of L1")
    return problems


def criterion_of(config: Config, progress: Progress = silent) -> Criterion:
    """The criterion that a configuration allows: never the test items.

    If every classification task of the configuration has validation data: the mean weighted F1 over tasks, by
    group of languages. Otherwise the negative loss, in nats per token, on what training did not see: on
    instructions from held-out sentences for L2; for L1 on replay examples that were not selected for training or,
    without replay data, on held-out sentences in the known languages.

    Args:
        config: names the tasks, or the corpora and replay data.
        progress: called with each step's progress.

    Raises:
        ConfigError: nothing is held out.
        DataError: validation data are missing or wrong.
    """
    tasks = [task for name in config.evaluation.tasks if isinstance(task := load_task(name), Task)]
    if not tasks or any(task.validation is None for task in tasks):
        return _loss_criterion(config, progress)
    groups = [*config.languages.known, *config.languages.new]
    languages = [code for code in config.evaluation.languages or groups if config.languages.group_of(code) != "L3"]
    # Languages that are named must be in the tasks; so they are named only if the user did.
    settings = config.evaluation.model_copy(
        update={
            "languages": languages if config.evaluation.languages else None,
            "bootstrap": 0,
        }
    )
    changed = config.model_copy(update={"evaluation": settings})
    selection = TaskSelection([plan_task(changed, task.on_validation()) for task in tasks])

    def measure(model: str, folder: Path) -> HeldOutScore:
        scores = evaluate(model, changed, folder, run="merged", selection=selection, progress=progress)
        means = []
        for group in ("L1", "L2"):
            values = [
                score.value
                for score in scores
                if (score.metric, score.language, score.group, score.run) == ("f1_weighted", "", group, "merged")
            ]
            if not values:
                raise ConfigError([f"evaluation.tasks: no validation items in a language of {group} to choose by"])
            means.append(fmean(values))
        return HeldOutScore(*means)

    return Criterion(f"weighted F1 on the validation data of {', '.join(task.name for task in tasks)}", measure)


def _loss_criterion(config: Config, progress: Progress) -> Criterion:
    data = prepare_data(config, contamination_check(config), progress)
    if len(data.heldout) < 2:
        raise ConfigError(
            [
                "instructions.heldout: no held-out sentences to choose alpha by; hold out at least two, or name "
                "tasks with validation data in evaluation.tasks"
            ]
        )
    known, description = _unseen_examples(config, data)

    def measure(model: str, folder: Path) -> HeldOutScore:
        loaded = load_model(config.model, None if model == config.model.base else model)
        encoder = ExampleEncoder(loaded.codec, config.training.max_length)
        known_loss = answer_loss(known, encoder, loaded.encoder_decoder)(loaded.model)
        new = validation_loss(config, data, encoder, loaded)
        return HeldOutScore(-known_loss, -(new(loaded.model) if new else 0.0))

    return Criterion(f"negative loss on held-out instructions (L2) and on {description} (L1)", measure)


def _unseen_examples(config: Config, data: TrainingData) -> tuple[list[Instruction], str]:
    """What the base model knew and training did not see, and what to call it."""
    if config.replay and config.replay.size:
        size = config.replay.size
        larger = config.replay.model_copy(update={"size": size + _MAX_EXAMPLES})
        candidates = load_replay(larger, config.seed, config.model, made=size).examples
        seen = {(each.prompt, each.answer) for each in (*data.replay.examples, *data.taught.examples)}
        unseen = [example for example in candidates if (example.prompt, example.answer) not in seen]
        if unseen:
            return unseen[:_MAX_EXAMPLES], "unselected replay examples"
    sentences = known_sentences(data.heldout, config.languages.known, config.seed, _MAX_EXAMPLES)
    if not sentences:
        raise ConfigError(
            [
                "instructions.heldout: no held-out sentence is in a known language, and no replay examples are "
                "left beyond those selected; lower replay.size, or hold out more sentences"
            ]
        )
    return sentences, "held-out sentences in the known languages"
