"""The toy family as a parallel corpus, as replay data and as test items.

Each use has its own range of sentence indices, and no two indices have the same meaning (`family.meaning`), so no
test sentence occurs in a corpus or in what the base model was trained on, in any language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from instructalign.errors import DataError
from instructalign.randomness import Draws, digest_key
from instructalign.toy.family import DESCENT, KNOWN, language, meaning, say
from instructalign.types import Counts, Instruction, ParallelRow

REPLAY_SENTENCES = range(600_000)
"""Sentences of the instruction data that the shipped base was trained on, which is also the replay data."""
CORPUS_SENTENCES = range(600_000, 800_000)
"""Sentences of the parallel corpus."""
TEST_SENTENCES = range(800_000, 1_000_000)
"""Sentences of the test items."""

_REPLAY_TASKS = (("sentiment", 0.25), ("topic", 0.5), ("translation", 1.0))  # cumulative shares


def read_corpus(
    languages: Sequence[str],
    counts: Counts,
    *,
    rows: int = 1000,
    seed: int = 0,
    skip: Annotated[int, Field(ge=0)] | None = None,
) -> Iterator[ParallelRow]:
    """Sentences of the family in all of the languages asked for, with neither label nor topic.

    Args:
        languages: codes; those outside the family are skipped, as in any corpus that lacks them.
        counts: counts.read is increased for every row.
        rows: how many sentences.
        seed: the family's seed.
        skip: how many sentences to leave out before the first; by default none.

    Raises:
        DataError: more rows than the corpus has sentences.

    Example:
        {format: toy, rows: 500}
    """
    here = [language(code, seed=seed) for code in languages if code in KNOWN or code in DESCENT]
    # None and not 0 by default, so that older configurations keep their hashes.
    for index in _first(CORPUS_SENTENCES[skip or 0 :], rows, "rows"):
        counts.read += 1
        sentence = meaning(index, seed=seed)
        yield ParallelRow(f"toy-{index}", {each.code: say(each, sentence) for each in here})


def read_replay(*, rows: int = 20_000, seed: int = 0) -> Iterator[Instruction]:
    """Replay data: the first examples that the base was trained on, in the known languages.

    Args:
        rows: how many.
        seed: the family's seed.

    Raises:
        DataError: more rows than there are examples.
    """
    return (replay_instruction(index, seed=seed) for index in _first(REPLAY_SENTENCES, rows, "rows"))


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
        data: the folder of evaluation data; unused, as the items are generated.
        code: the language.
        name: the language's name in the task file; unused.
        task: the label.
        items: how many.
        skip: how many sentences to leave out before the first.
        seed: the family's seed.
        relatedness: of related languages to their parents (see `family.language`).

    Raises:
        DataError: the family lacks the language, or more items are asked for than there are.
    """
    toy_language = language(code, seed=seed, relatedness=relatedness)
    for index in _first(TEST_SENTENCES, skip + items, "skip and items")[skip:]:
        sentence = meaning(index, seed=seed)
        yield {"id": f"toy-{index}", "text": say(toy_language, sentence), "label": getattr(sentence, task)}


def replay_instruction(index: int, *, seed: int = 0) -> Instruction:
    """Example `index` of the base's instruction data: sentiment, topic, or translation, all among `KNOWN`."""
    draws = Draws(digest_key(seed, "toy past"), index)
    sentence = meaning(REPLAY_SENTENCES[index], seed=seed)
    task = _REPLAY_TASKS[draws.weighted([share for _, share in _REPLAY_TASKS])][0]
    source = draws.choice(KNOWN)
    text = say(language(source, seed=seed), sentence)
    target, row = "", f"replay-{index}"
    if task == "translation":
        target = draws.choice([code for code in KNOWN if code != source])
        other = language(target, seed=seed)
        names = {"source": language(source, seed=seed).name, "target": other.name}
        prompt = draws.choice(_data("instructions/templates/toy.yaml")["templates"]["mt"])["prompt"]
        return Instruction(
            prompt.format(text=text, **names), say(other, sentence), "replay", source, target, row, task
        )
    wording: Mapping[str, Any] = _data(f"evaluation/tasks/toy_{task}.yaml")
    chosen = draws.choice(list(wording["prompts"].values()))
    answer = wording["labels"][getattr(sentence, task)][chosen["language"]]
    return Instruction(chosen["prompt"].format(text=text), answer, "replay", source, target, row, task)


def _first(sentences: range, wanted: int, option: str) -> range:
    if not 1 <= wanted <= len(sentences):
        raise DataError(f"{option} must be between 1 and {len(sentences)} in the toy family, found {wanted}")
    return sentences[:wanted]


@lru_cache(maxsize=8)
def _data(path: str) -> Any:
    """A YAML file of the package: one wording of the prompts, for evaluation and replay data."""
    return yaml.safe_load(files("instructalign").joinpath(path).read_text(encoding="utf-8"))
