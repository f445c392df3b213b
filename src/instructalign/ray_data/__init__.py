"""Cleaning corpora and making instructions on many processors and machines, through Ray Data (the extra `ray`).

The result is the same as on one machine: the same rows, the same counts, the same instructions, byte for byte.
Rows are filtered a block at a time by the same functions; a duplicate is found by a key that brings it together
with its like; example k is a function of the rows, the configuration, the seed and k, so that it can be made
anywhere.
"""

from __future__ import annotations

from instructalign.ray_data.ray_corpus import place, read_rows
from instructalign.ray_data.session import session, spread

__all__ = ["place", "read_rows", "session", "spread"]
