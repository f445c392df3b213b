"""Random numbers that are functions of (seed, what for, index) and of nothing else.

No generator state is carried from one example to the next: example i is the same whoever asks for it, in
whatever order, in whatever process. Hashes (BLAKE2b, and SHAKE for many numbers at once) give the
bits: the same on every platform and with every version of every library.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from functools import lru_cache
from hashlib import blake2b, shake_128
from math import isqrt
from struct import Struct
from typing import TypeVar

T = TypeVar("T")

_LONG = Struct("<8Q").unpack  # one digest as 8 words of 64 bits
_UNIT = 1.0 / (1 << 53)


def digest_key(seed: int, *parts: str | int) -> bytes:
    """A 32-byte key for a stream of random numbers, from a seed and the names that distinguish it."""
    text = "\x1f".join([str(int(seed)), *(str(part) for part in parts)])
    return blake2b(text.encode(), digest_size=32).digest()


class Draws:
    """An endless stream of random draws for one index of one stream.

    Args:
        key: the stream's key, from `digest_key`.
        index: the position within the stream; any integer from 0 to 2**64 - 1.
    """

    __slots__ = ("_at", "_block", "_prefix", "_words")

    def __init__(self, key: bytes, index: int) -> None:
        # Key, index and block number fill less than one block of BLAKE2b: each digest is one compression.
        self._prefix = key + index.to_bytes(8, "little")
        self._words = _LONG(blake2b(self._prefix + bytes(8)).digest())
        self._block = 1
        self._at = 0

    def bits(self) -> int:
        """A whole number, uniform over 0 … 2**64 - 1."""
        at = self._at
        if at == 8:
            self._words = _LONG(blake2b(self._prefix + self._block.to_bytes(8, "little")).digest())
            self._block += 1
            at = 0
        self._at = at + 1
        return int(self._words[at])

    def many(self, count: int) -> Sequence[int]:
        """`count` whole numbers, uniform over 0 … 2**32 - 1; quicker than one at a time."""
        block = self._block
        self._block = block + 1
        return _shorts(count)(shake_128(self._prefix + block.to_bytes(8, "little")).digest(4 * count))

    def uniform(self) -> float:
        """A real number, uniform over [0, 1)."""
        return (self.bits() >> 11) * _UNIT

    def below(self, n: int) -> int:
        """A whole number, uniform over 0 … n - 1 (bias below n / 2**64)."""
        return (self.bits() * n) >> 64

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, each as likely as the others."""
        return items[self.below(len(items))]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """An index drawn with the weights whose running sums are given; the last sum is the total."""
        point = (self.bits() >> 11) * _UNIT * cumulative[-1]
        for index, bound in enumerate(cumulative):
            if point < bound:
                return index
        return len(cumulative) - 1

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Shuffles in place (Fisher-Yates); every order is equally likely."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


@lru_cache(maxsize=1024)
def _shorts(count: int) -> Callable[[bytes], tuple[int, ...]]:
    return Struct(f"<{count}I").unpack


class Permutation:
    """A random order of 0 … size - 1, of which any element is computed on its own.

    `permutation[i]` takes constant time: a four-round Feistel network over pairs (left, right) with
    left < a, right < b and a * b just above `size`, walked until it lands inside (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains"). The round functions are tables of about sqrt(size) random
    numbers each, so a billion elements take about a megabyte.
    """

    __slots__ = ("_left", "_right", "_rounds", "size")

    def __init__(self, size: int, key: bytes) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, not {size}")
        self.size = size
        self._left = isqrt(size - 1) + 1
        self._right = -(-size // self._left)
        self._rounds = tuple(
            _table(key, number, *shape)
            for number, shape in enumerate([(self._right, self._left), (self._left, self._right)] * 2)
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} is outside 0 … {self.size - 1}")
        a, b = self._left, self._right
        first, second, third, fourth = self._rounds
        value = index
        while True:
            left, right = divmod(value, b)
            left = (left + first[right]) % a
            right = (right + second[left]) % b
            left = (left + third[right]) % a
            right = (right + fourth[left]) % b
            value = left * b + right
            if value < self.size:
                return value


def _table(key: bytes, number: int, length: int, bound: int) -> array[int]:
    """`length` random numbers below `bound` (bias below bound / 2**64): one round of a permutation."""
    prefix = key + number.to_bytes(8, "little")
    table = array("Q")
    for block in range(-(-length // 8)):
        digest = blake2b(prefix + block.to_bytes(8, "little")).digest()
        table.extend([word % bound for word in _LONG(digest)])
    return table[:length]


@lru_cache(maxsize=32)
def _epoch(size: int, seed: int, parts: tuple[str | int, ...], epoch: int) -> Permutation:
    return Permutation(size, digest_key(seed, *parts, "epoch", epoch))


def permuted(index: int, size: int, seed: int, *parts: str | int) -> int:
    """Element `index` of an endless walk over 0 … size - 1 that goes through all, in a new order each time."""
    epoch, place = divmod(index, size)
    return _epoch(size, seed, parts, epoch)[place]
