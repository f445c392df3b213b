"""What a model is asked to do with a sentence in two languages.

An objective is one file here (or in a plug-in) with one class, and one line in `registry.OBJECTIVES`. The
keyword-only arguments of its constructor are its options in the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from instructalign.instructions.context import Context
from instructalign.randomness import Draws
from instructalign.types import ParallelRow

__all__ = ["Context", "Made", "Objective"]

Made = tuple[Mapping[str, str], str]
"""The texts for the slots of a prompt, and the answer."""


class Objective:
    """Base of the objectives.

    Attributes:
        slots: the slots that a template must have, beside the optional language names.
        labels: for a closed question its answers; a template set says which words stand for them.
        monolingual: whether only the new language is used; the source is then the target.
    """

    slots: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]] = ()
    monolingual: ClassVar[bool] = False

    def prepare(self, directions: Sequence[tuple[str, str]], context: Context) -> None:
        """Reads or learns what `make` needs, once.

        Args:
            directions: every (source, target) that will be asked for.
            context: the corpus, and the noise.
        """

    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made | None:
        """Turns a sentence into a question and its answer.

        Args:
            row: the sentence; it has a text in both languages.
            source: code of the language given.
            target: code of the language asked for.
            draws: random numbers, a function of the example's index only.
            context: the corpus, and the noise.

        Returns:
            The texts for the slots, and the answer: a text, or one of `labels`. None where nothing can be
            made of this sentence in this direction; then another is drawn.
        """
        raise NotImplementedError
