"""Calibration examples: data that a strategy measures importance on, from what the base model knew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from instructalign.data import Corpus
from instructalign.errors import TrainingError
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.training.strategies.strategy import StrategyContext
from instructalign.types import Instruction

CalibrationSource = Literal["replay", "known"]
"""`replay`: replay examples. `known`: sentences in the known languages, the first half as prompt, the second as
answer."""

WITHOUT_REPLAY = "or set training.strategy.{name}.on to known, for sentences in the known languages of the corpora"


def calibration_examples(context: StrategyContext, on: CalibrationSource, count: int) -> list[Instruction]:
    """Examples of what the base model knew, chosen by the run's seed; fewer than `count` if there are no more.

    Raises:
        TrainingError: the corpora have no sentence in a known language.
    """
    seed = context.config.seed
    if on == "replay":
        replay = context.data.replay
        return [replay.examples[permuted(i, len(replay), seed, "probe")] for i in range(min(count, len(replay)))]
    examples = known_sentences(context.data.corpus, context.config.pivots, seed, count)
    if not examples:
        raise TrainingError(
            "the corpora contain no sentence of two or more words in a known language "
            f"({', '.join(context.config.pivots)}); use `on: replay` with replay data"
        )
    return examples


def known_sentences(rows: Corpus, languages: Sequence[str], seed: int, count: int) -> list[Instruction]:
    """Sentences in some languages, the first half as the prompt and the second as the answer.

    Args:
        rows: where they are taken from; each row gives a sentence in one of the languages.
        languages: codes.
        seed: decides which.
        count: at most this many.
    """
    key = digest_key(seed, "probe", "language")
    examples: list[Instruction] = []
    for index in range(len(rows)):
        if len(examples) == count:
            break
        row = rows[permuted(index, len(rows), seed, "probe")]
        codes = [code for code in languages if row.texts.get(code)]
        if not codes:
            continue
        code = Draws(key, index).choice(codes)
        prompt, answer = halves(row.texts[code])
        if prompt and answer:
            examples.append(Instruction(prompt, answer, "known", code, code, row.id))
    return examples


def halves(text: str) -> tuple[str, str]:
    """A text split at the space nearest its middle, or in the middle if it has none."""
    text = text.strip()
    spaces = [place for place, character in enumerate(text) if character == " "]
    middle = min(spaces, key=lambda place: abs(2 * place - len(text)), default=len(text) // 2)
    return text[:middle].rstrip(), text[middle:].lstrip()
