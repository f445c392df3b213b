"""The examples on which a strategy looks for what must be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from instructalign.data import Corpus
from instructalign.errors import TrainingError
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.training.strategies.strategy import Setting
from instructalign.types import Instruction

Source = Literal["replay", "known"]
"""`replay`: past examples. `known`: sentences in the known languages, half of each asking for the other half."""

INSTEAD = "or set training.strategy.{name}.on to known, for sentences in the known languages of the corpora"


def source_examples(setting: Setting, on: Source, count: int) -> list[Instruction]:
    """Examples of what the model knew, by the run's seed; fewer than `count` where there are no more.

    Raises:
        TrainingError: the corpora have no sentence in a known language.
    """
    seed = setting.config.seed
    if on == "replay":
        past = setting.data.replay
        picked = (permuted(i, len(past), seed, "probe") for i in range(min(count, len(past))))
        return [past.examples[place] for place in picked]
    examples = known_sentences(setting.data.corpus, setting.config.pivots, seed, count)
    if not examples:
        raise TrainingError(
            f"the corpora hold no sentence of two words in a known language ({', '.join(setting.config.pivots)}); "
            "use on: replay with past data"
        )
    return examples


def known_sentences(rows: Corpus, languages: Sequence[str], seed: int, count: int) -> list[Instruction]:
    """The first half of sentences in some languages as a prompt, the second as its answer.

    Args:
        rows: where they are taken from.
        languages: codes; each row gives a sentence in one of them.
        seed: decides which.
        count: at most so many.
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
    """A text in two parts, cut at the space nearest its middle, or in its middle where it has none."""
    text = text.strip()
    spaces = [place for place, sign in enumerate(text) if sign == " "]
    cut = min(spaces, key=lambda place: abs(2 * place - len(text)), default=len(text) // 2)
    return text[:cut].rstrip(), text[cut:].lstrip()
