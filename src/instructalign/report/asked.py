"""Which runs were not asked the same, so that their scores are not to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import headline
from instructalign.report.run_results import RunResults
from instructalign.report.tables import unique

DIFFERENT = {
    "split": "items",
    "n": "items",
    "prompts": "prompts",
    "scoring": "rules of scoring",
    "questions": "items or wordings of the prompts",
}
"""The parts of a signature that say what was asked, in words. `questions` is a hash over all languages."""

_Asked = dict[str, Mapping[str, Any]]  # by language, the signature


def asked_differently(runs: Sequence[RunResults]) -> list[str]:
    """A sentence for each task on which not all runs were asked the same."""
    models = [(run.name, model) for run in runs if (model := run.adapted or run.base) is not None]
    return [
        f"On {task}, {_listed([_told(some, sets[0][0]) for some in sets[1:]])} than {_listed(sets[0][1])}, "
        "so that their scores are not to be compared."
        for task in unique(score.task for _, model in models for score in model.scores if score.language)
        if len(sets := _sets(models, task)) > 1
    ]


def _sets(models: Sequence[tuple[str, ModelResults]], task: str) -> list[tuple[_Asked, list[str]]]:
    """The names of the models that were asked the same, with what that was."""
    sets: list[tuple[_Asked, list[str]]] = []
    for name, model in models:
        asked = _asked(model, task)
        same = next((each for each in sets if not _differing(each[0], asked)), None)
        if same is not None:
            same[0].update(asked)
            same[1].append(name)
        elif asked:
            sets.append((asked, [name]))
    return [some for some in sets if some[0]]


def _asked(model: ModelResults, task: str) -> _Asked:
    metric = headline(model.scores, task)
    return {
        score.language: score.signature
        for score in model.scores
        if score.task == task and score.metric == metric and score.language
    }


def _differing(one: _Asked, other: _Asked) -> list[str]:
    """In words, what differs in the languages that both were asked in."""
    pairs = [(one[code], other[code]) for code in one.keys() & other.keys()]
    parts = [key for key in DIFFERENT if any(a.get(key) != b.get(key) for a, b in pairs)]
    if len(parts) > 1 or one.keys() != other.keys():
        parts = [key for key in parts if key != "questions"]
    return unique(DIFFERENT[key] for key in parts)


def _told(some: tuple[_Asked, list[str]], first: _Asked) -> str:
    asked, names = some
    return f"{_listed(names)} had other {_listed(_differing(first, asked))}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
