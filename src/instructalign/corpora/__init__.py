"""Parallel corpora: reading them in any format, cleaning them, and splitting them by sentence."""

from __future__ import annotations

from instructalign.corpora.contamination import Guard, check_corpus, check_texts
from instructalign.corpora.corpus import Corpus
from instructalign.corpora.itemindex import ItemIndex, ItemText
from instructalign.corpora.read import read_corpora

__all__ = ["Corpus", "Guard", "ItemIndex", "ItemText", "check_corpus", "check_texts", "read_corpora"]
