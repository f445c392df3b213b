"""Cleaning corpora and making instructions on many processors and machines, through Ray Data (the extra `ray`).

The result is the same as on one machine: the same rows, the same counts, the same instructions, byte for byte.
Rows are filtered a block at a time by the same functions; duplicates meet by their key; example k is a function of
the rows, the configuration, the seed and k, so that it can be made anywhere.
"""

from __future__ import annotations

from instructalign.ray_data.ray_corpus import prepare_corpus_on_ray, rows_folder
from instructalign.ray_data.ray_session import map_on_cluster, ray_session

__all__ = ["map_on_cluster", "prepare_corpus_on_ray", "ray_session", "rows_folder"]
