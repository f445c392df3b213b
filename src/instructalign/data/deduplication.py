"""Exact and near-duplicates among parallel rows."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from typing import Any

import numpy as np

from instructalign.data.normalization import fingerprint, plain, shingles
from instructalign.types import ParallelRow

_NEAR = 0.8  # Jaccard index of the shingles from which two rows are near-duplicates

# Locality-sensitive hashing by minima (Broder 1997; bands as in Leskovec, Rajaraman and Ullman 2014, chapter 3):
# with 10 bands of 4 minima, rows at an index of 0.8 meet in some band with probability 0.995, rows at 0.3 with
# 0.08. Rows that meet are compared by their shingles themselves.
BANDS, _MINIMA, _LENGTH = 10, 4, 5
_ODD: Any = np.frombuffer(
    b"".join(blake2b(bytes([i]), digest_size=8).digest() for i in range(64)), dtype=np.uint64
) | np.uint64(1)


def find_exact(rows: Sequence[ParallelRow]) -> Iterator[tuple[int, float]]:
    """The number of each row that has the same texts in the same languages as an earlier one, and 1.0.

    Texts that differ in invisible characters or kinds of apostrophe alone (`normalization.plain`) are the same.
    """
    keys = array("Q", (exact_key(row) for row in rows))
    for group in groups(np.frombuffer(keys, dtype=np.uint64)):
        yield from ((int(index), 1.0) for index in group[1:])


def find_near(rows: Sequence[ParallelRow]) -> Iterator[tuple[int, float]]:
    """The number of each row that is a near-duplicate of an earlier, kept one, and the Jaccard index of both.

    Rows are compared by the fingerprints of all their texts together. Exact duplicates are found first.
    """
    dropped = bytearray(len(rows))
    for index, similarity in find_exact(rows):
        dropped[index] = True
        yield index, similarity
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(BANDS)]
        for row in rows:
            for file, key in zip(files, band_keys(row), strict=True):
                file.write(key.tobytes())
        for file in files:
            file.seek(0)
            for group in groups(np.frombuffer(file.read(), dtype=np.uint64)):
                for index, similarity in near_copies(rows, [int(index) for index in group if not dropped[index]]):
                    dropped[index] = True
                    yield index, similarity


def near_copies(rows: Sequence[ParallelRow], members: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Those of the rows of one group that are near-duplicates of its first, and their Jaccard index with it."""
    first = shingles(_words(rows[members[0]])) if len(members) > 1 else set()
    for index in members[1:]:
        other = shingles(_words(rows[index]))
        similarity = len(first & other) / len(first | other)
        if similarity >= _NEAR:
            yield index, similarity


def exact_key(row: ParallelRow) -> int:
    """A number of 64 bits that rows with the same texts in the same languages share, however they were typed."""
    digest = blake2b(digest_size=8)
    for code in sorted(row.texts):
        digest.update(f"{code}\0{plain(row.texts[code])}\0".encode())
    return int.from_bytes(digest.digest(), "little")


def _words(row: ParallelRow) -> str:
    texts = [row.texts[code] for code in sorted(row.texts)]
    return "\n".join(map(fingerprint, texts)).strip() or "\n".join(texts)


def groups(keys: Any) -> Iterator[Any]:
    """The places of each key that is there more than once, in ascending order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    del ordered  # the arrays of a large corpus are large
    edges = np.flatnonzero(np.diff(same, prepend=False, append=False))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        yield order[first : last + 1]


def band_keys(row: ParallelRow) -> Any:
    """A key for each band [bands]: rows with equal minima in a band have an equal key there."""
    text = _words(row)
    codes = np.frombuffer(text.ljust(_LENGTH).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(codes) - _LENGTH + 1, dtype=np.uint64)
    for i in range(_LENGTH):
        hashes += codes[i : len(hashes) + i] * _ODD[i]
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _ODD[_LENGTH]
    minima = (hashes * _ODD[6 : 6 + BANDS * _MINIMA, None]).min(axis=1).reshape(BANDS, _MINIMA)
    return (minima * _ODD[46 : 46 + _MINIMA]).sum(axis=1, dtype=np.uint64)
