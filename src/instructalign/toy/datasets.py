"""The toy family as a corpus, as past instruction data and as test items.

Each use has its own range of sentence indices, and no two indices say the same (`family.meaning`), so that
no test sentence stands in a corpus or in what the base model was trained on, in whatever language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from instructalign.errors import DataError
from instructalign.randomness import Draws, digest_key
from instructalign.toy.family import DESCENT, KNOWN, language, meaning, say
from instructalign.types import Counts, Instruction, ParallelRow

PAST = range(600_000)
"""Sentences of the past instruction data, which the shipped base was trained on."""
CORPUS = range(600_000, 800_000)
"""Sentences of the parallel corpus."""
TEST = range(800_000, 1_000_000)
"""Sentences of the test items."""

_PAST_TASKS = (("sentiment", 0.25), ("topic", 0.5), ("translation", 1.0))  # running sums of their shares


def read_corpus(
    languages: Sequence[str], counts: Counts, *, rows: int = 1000, seed: int = 0
) -> Iterator[ParallelRow]:
    """Parallel sentences of the family, with neither label nor topic.

    Args:
        languages: codes wanted; those outside the family are passed over, as in any corpus that lacks them.
        counts: counts.read is increased for every row.
        rows: how many sentences.
        seed: the family's seed.

    Raises:
        DataError: more rows than the corpus has sentences.
    """
    here = [language(code, seed=seed) for code in languages if code in KNOWN or code in DESCENT]
    for index in _first(CORPUS, rows, "rows"):
        counts.read += 1
        said = meaning(index, seed=seed)
        yield ParallelRow(f"toy-{index}", {tongue.code: say(tongue, said) for tongue in here})


def read_replay(*, rows: int = 20_000, seed: int = 0) -> Iterator[Instruction]:
    """The first examples of the instruction data that the base was trained on, in the known languages.

    Args:
        rows: how many.
        seed: the family's seed.

    Raises:
        DataError: more rows than there is past data.
    """
    return (past_instruction(index, seed=seed) for index in _first(PAST, rows, "rows"))


def read_task(
    data: Path,
    code: str,
    name: str,
    *,
    task: Literal["sentiment", "topic"] = "sentiment",
    items: int = 200,
    skip: int = 0,
    seed: int = 0,
    relatedness: float | None = None,
) -> Iterator[dict[str, str]]:
    """Test items: the same sentences in every language, with their label.

    Args:
        data: the folder of evaluation data; unused, the items are made here.
        code: the language.
        name: the language's name in the task file; unused.
        task: which label.
        items: how many.
        skip: how many sentences come before the first.
        seed: the family's seed.
        relatedness: the dial for related languages (see `family.language`).

    Raises:
        DataError: the family lacks the language, or more items are asked for than there are.
    """
    tongue = language(code, seed=seed, relatedness=relatedness)
    for index in _first(TEST, skip + items, "skip and items")[skip:]:
        said = meaning(index, seed=seed)
        yield {"id": f"toy-{index}", "text": say(tongue, said), "label": getattr(said, task)}


def past_instruction(index: int, *, seed: int = 0) -> Instruction:
    """Example `index` of the base's instruction data: sentiment, topic, or translation, all among `KNOWN`."""
    draws = Draws(digest_key(seed, "toy past"), index)
    said = meaning(PAST[index], seed=seed)
    task = _PAST_TASKS[draws.weighted([share for _, share in _PAST_TASKS])][0]
    source = draws.choice(KNOWN)
    text = say(language(source, seed=seed), said)
    target, row = "", f"past-{index}"
    if task == "translation":
        target = draws.choice([code for code in KNOWN if code != source])
        tongue = language(target, seed=seed)
        names = {"source": language(source, seed=seed).name, "target": tongue.name}
        prompt = draws.choice(_data("instructions/templates/toy.yaml")["templates"]["mt"])["prompt"]
        return Instruction(
            prompt.format(text=text, **names), say(tongue, said), "replay", source, target, row, task
        )
    wording: Mapping[str, Any] = _data(f"evaluation/tasks/toy_{task}.yaml")
    chosen = draws.choice(list(wording["prompts"].values()))
    answer = wording["labels"][getattr(said, task)][chosen["language"]]
    return Instruction(chosen["prompt"].format(text=text), answer, "replay", source, target, row, task)


def _first(sentences: range, wanted: int, option: str) -> range:
    if not 1 <= wanted <= len(sentences):
        raise DataError(f"{option} must lie between 1 and {len(sentences)} in the toy family, found {wanted}")
    return sentences[:wanted]


@lru_cache(maxsize=8)
def _data(path: str) -> Any:
    """A YAML file of the package: prompts are worded there, once, for evaluation and for past data alike."""
    return yaml.safe_load(files("instructalign").joinpath(path).read_text(encoding="utf-8"))
