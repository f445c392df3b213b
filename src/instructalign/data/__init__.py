"""Parallel corpora: reading them in any format, cleaning them, and splitting them by sentence."""

from __future__ import annotations

from instructalign.data.contamination import Guard, ItemIndex, ItemText, check_corpus, check_texts
from instructalign.data.corpus import Corpus, read_corpora

__all__ = ["Corpus", "Guard", "ItemIndex", "ItemText", "check_corpus", "check_texts", "read_corpora"]
