"""Sentences that several rows share: placeholders, and a split that has each sentence on one side only.

One sentence can stand in many rows, with a translation in each, and a translation with many sentences (Tatoeba).
Rows that share an id or a sentence of some language, directly or through other rows, are a group; a group is held
out as a whole or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from instructalign.data.normalization import fingerprint, fold
from instructalign.errors import DataError
from instructalign.types import ParallelRow

logger = logging.getLogger(__name__)

_AT_ONCE = 4  # languages whose texts are looked at in one pass: 8 bytes of memory for each text
_PART = 10  # a group of more than a tenth of what is held out is taken only where smaller ones do not suffice

_USUAL = 100  # sentences held out at most where their number is not given

# Of a placeholder, at least: the number of different texts that it is paired with, their share of the language's
# rows, and their share of its own rows. Of real texts (docs/LOG.md), words of small lexicons come nearest: 13
# texts, 1.04 % of the rows.
_PLACEHOLDERS = ((5, 0.1, 0.5), (20, 0.01, 0.5), (100, 0.0, 0.9))

Keys = NDArray[np.uint64]


def text_key(text: str) -> int:
    """A number of 64 bits that all spellings of a sentence share: from its words, or all of it if it has none."""
    words = fingerprint(text) or fold(text)
    return int.from_bytes(blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def text_keys(rows: Iterable[ParallelRow], count: int, languages: Sequence[str]) -> Iterator[Keys]:
    """By language, the key of each row's text [rows]; 0 where it has none.

    Args:
        rows: can be iterated over several times.
        count: how many there are.
        languages: the languages.
    """
    for start in range(0, len(languages), _AT_ONCE):
        some = languages[start : start + _AT_ONCE]
        keys = np.zeros((len(some), count), dtype=np.uint64)
        for place, row in enumerate(rows):
            for number, code in enumerate(some):
                if code in row.texts:
                    keys[number, place] = text_key(row.texts[code])
        yield from keys


def find_placeholders(columns: Sequence[Keys]) -> list[NDArray[np.uint32]]:
    """Texts that stand in the place of a missing translation: `__NULL__`, `<range>`, `TODO`, `-`.

    They are found by their standing in many rows against different texts, while a sentence, however often it is
    there, has a few translations. A row's other text is the first one that is not the same.

    Args:
        columns: by language, the key of each row's text, 0 where there is none [rows].

    Returns:
        By language, against how many different texts a row's text stands if it is a placeholder, or else 0 [rows].
    """
    found = []
    for place, keys in enumerate(columns):
        distinct = np.zeros(len(keys), dtype=np.uint32)
        found.append(distinct)
        values, counts = np.unique(keys[keys != 0], return_counts=True)
        often = values[counts >= _PLACEHOLDERS[0][0]]
        if not len(often):
            continue
        other = np.zeros(len(keys), dtype=np.uint64)
        for column in (*columns[:place], *columns[place + 1 :]):
            np.copyto(other, column, where=(other == 0) & (column != keys))
        rows = np.flatnonzero(np.isin(keys, often))
        pairs = np.unique(np.stack([keys[rows], other[rows]]), axis=1)
        texts, kinds = np.unique(pairs[0, pairs[1] != 0], return_counts=True)
        total, of_text = counts.sum(), counts[np.searchsorted(values, texts)]
        is_one = np.zeros(len(texts), dtype=bool)
        for least, share, own in _PLACEHOLDERS:
            is_one |= (kinds >= least) & (kinds >= share * total) & (kinds >= own * of_text)
        for text, number in zip(texts[is_one], kinds[is_one], strict=True):
            distinct[keys == text] = number
    return found


def choose_heldout(ranks: Keys, columns: Iterable[Keys], heldout: int | None) -> NDArray[np.bool_]:
    """Which rows are held out [rows].

    Sentences are held out in the order of their ranks, each with its group. A group that is larger than what is
    left to hold out stays in training as a whole, and one of more than a tenth of the held-out sentences is taken
    only where smaller ones do not suffice; so a group that spans most of a corpus cannot swallow it.

    Args:
        ranks: of the id of each row; rows of one id have one rank, and no others have it [rows].
        columns: by language, the key of each row's text, 0 where there is none [rows].
        heldout: how many sentences (distinct ids) to hold out; None for a tenth, at most 100. Where groups do not
            add up to it, there are fewer, with a warning.

    Raises:
        DataError: the corpus has no more sentences than the given number, or all are in groups that are larger.
    """
    linked, labels = _groups(ranks, columns)
    single = np.ones(len(ranks), dtype=bool)
    single[linked] = False
    alone = np.sort(ranks[single])
    among, first = np.unique(ranks[linked], return_index=True)
    sentences = len(alone) + len(among)
    given, heldout = heldout, min(_USUAL, sentences // 10) if heldout is None else heldout
    if sentences <= heldout and given is not None:
        raise DataError(
            f"{heldout} sentences are to be held out, but the corpus has only {sentences}. "
            "Lower instructions.heldout, or add a corpus."
        )
    sizes = np.bincount(labels[first])
    lowest = np.full(len(sizes), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, labels, ranks[linked])
    # (0, or the size of a large group; rank; size; the group, or -1)
    candidates = [(0, int(rank), 1, -1) for rank in alone[:heldout]]
    for label, size in enumerate(sizes.tolist()):
        large = size if size > max(1, heldout // _PART) else 0
        candidates.append((large, int(lowest[label]), size, label))
    left, limit, chosen = heldout, -1, []
    for _, rank, size, label in sorted(candidates):
        if size <= left:
            left -= size
            if label >= 0:
                chosen.append(label)
            else:
                limit = rank
    if left == heldout and given:
        raise DataError(
            f"{heldout} sentences are to be held out, but all {sentences} of the corpus share sentences with one "
            f"another, in groups of {sizes.min()} and more. Raise instructions.heldout, set it to 0, or add a "
            "corpus; if one text stands in the place of many translations, set filter.preset to standard."
        )
    if left:
        logger.warning(
            "%d sentences are held out, not %d: the others share sentences with one another, in larger groups",
            heldout - left,
            heldout,
        )
    held: NDArray[np.bool_] = single & (ranks <= np.uint64(max(limit, 0)))
    held[linked[np.isin(labels, chosen)]] = True
    return held


def choose_heldout_of_both(
    ranks: Keys, columns: Iterable[Keys], heldout: int | None, monolingual: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which rows are held out [rows]: of the parallel ones as if there were no others, and of monolingual text.

    Of that, as many documents (distinct ids) are held out, but at most a tenth of them. A sentence that both have
    is on the side that it has in the parallel text.

    Args:
        ranks, columns, heldout: as in `choose_heldout`.
        monolingual: which rows are monolingual text [rows].

    Raises:
        DataError: as `choose_heldout`.
    """
    if not monolingual.any():
        return choose_heldout(ranks, columns, heldout)
    columns = list(columns)
    held = np.zeros(len(ranks), dtype=bool)
    there = len(np.unique(ranks[monolingual]))
    documents = None if heldout is None else min(heldout, there // 10)
    if heldout and documents != heldout:
        logger.warning(
            "instructions.heldout is %d; of monolingual text, %d documents are held out, a tenth of all %d",
            heldout,
            documents,
            there,
        )
    for rows, number in ((~monolingual, heldout), (monolingual, documents)):
        if rows.any():
            held[rows] = choose_heldout(ranks[rows], [keys[rows] for keys in columns], number)
    for keys in columns:
        for side in (True, False):
            parallel = np.unique(keys[~monolingual & (held == side) & (keys != 0)])
            held[monolingual & np.isin(keys, parallel)] = side
    return held


def _groups(ranks: Keys, columns: Iterable[Keys]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that share an id or a text with another, in order [linked], and the group of each [linked]."""
    found = [edges for keys in chain([ranks], columns) if len((edges := _equal(keys))[0])]
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate(found, axis=1)
    linked, places = np.unique(edges, return_inverse=True)
    one, other = places.reshape(edges.shape)
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(linked), len(linked)))
    return linked, connected_components(graph, directed=False)[1].astype(np.int64)


def _equal(keys: Keys) -> NDArray[np.int64]:
    """Pairs of rows that have one key; of several rows, each with the next [2, pairs]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    return np.stack([order[:-1][same], order[1:][same]])
