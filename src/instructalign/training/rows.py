"""Which tokens only the new languages use: their embeddings can be trained without touching known languages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from instructalign.config import LanguagesConfig
from instructalign.corpora import Corpus
from instructalign.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = 10_000  # encoded at a time


def rows_of_new_languages(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, languages: LanguagesConfig
) -> list[int]:
    """The tokens that the corpus has in new languages and in no known one, in ascending order.

    Texts are read both as they begin a line and as they stand behind a space.

    Raises:
        TrainingError: there are none.
    """
    new = _tokens(tokenizer, corpus, languages.new)
    rows = sorted(new - _tokens(tokenizer, corpus, languages.known))
    if not rows:
        raise TrainingError(
            f"model.adapter.train_embeddings is new, but all {len(new)} tokens of the new languages stand in "
            "known languages as well. Set it to true for all embeddings, or to false."
        )
    return rows


def _tokens(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, languages: Sequence[str]) -> set[int]:
    texts = _texts(corpus, languages)
    found: set[int] = set()
    while some := list(islice(texts, _TEXTS)):
        encode: Any = tokenizer(some, add_special_tokens=False)
        for ids in encode["input_ids"]:
            found.update(ids)
    return found


def _texts(corpus: Corpus, languages: Sequence[str]) -> Iterator[str]:
    for row in corpus:
        for language in languages:
            if language in row.texts:
                yield row.texts[language]
                yield f" {row.texts[language]}"
