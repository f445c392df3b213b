"""Parallel corpora: reading them in any format, cleaning them, and splitting them by sentence."""

from __future__ import annotations

from instructalign.corpora.corpus import Corpus
from instructalign.corpora.read import read_corpora

__all__ = ["Corpus", "read_corpora"]
