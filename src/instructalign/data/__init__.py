"""Parallel corpora: reading them in any format, cleaning them, and splitting them by sentence."""

from __future__ import annotations

from instructalign.data.contamination import ContaminationCheck, ItemIndex, ItemText, check_corpus, check_texts
from instructalign.data.corpus import Corpus, read_corpora

__all__ = ["ContaminationCheck", "Corpus", "ItemIndex", "ItemText", "check_corpus", "check_texts", "read_corpora"]
