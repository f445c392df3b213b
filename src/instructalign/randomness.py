"""Random numbers that are functions of (seed, what for, index) and of nothing else.

No generator is carried from one example to the next, so example i is the same whoever asks for it, in
whatever order, in whatever process. A keyed hash (BLAKE2b) gives the bits: the same on every platform and
with every version of every library.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_WORD = 8  # bytes of one draw
_BLOCK = 64  # bytes of one digest
_UNIT = 1.0 / (1 << 53)


def digest_key(seed: int, *parts: str | int) -> bytes:
    """A 32-byte key for a stream of draws, from a seed and the names that set it apart."""
    text = "\x1f".join([str(int(seed)), *(str(part) for part in parts)])
    return blake2b(text.encode(), digest_size=32).digest()


class Draws:
    """An endless stream of random draws for one index of one stream.

    Args:
        key: the stream's key, from `digest_key`.
        index: the position within the stream; any integer from 0 to 2**64 - 1.
    """

    __slots__ = ("_at", "_block", "_buffer", "_hash")

    def __init__(self, key: bytes, index: int) -> None:
        self._hash = blake2b(index.to_bytes(8, "little"), key=key)
        self._block = 0
        self._buffer = b""
        self._at = _BLOCK

    def bits(self) -> int:
        """A whole number, uniform over 0 … 2**64 - 1."""
        if self._at == _BLOCK:
            block = self._hash.copy()
            block.update(self._block.to_bytes(8, "little"))
            self._buffer = block.digest()
            self._block += 1
            self._at = 0
        start = self._at
        self._at = start + _WORD
        return int.from_bytes(self._buffer[start : start + _WORD], "little")

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
        point = self.uniform() * cumulative[-1]
        for index, bound in enumerate(cumulative):
            if point < bound:
                return index
        return len(cumulative) - 1

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Shuffles in place (Fisher-Yates); every order is equally likely."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


class Permutation:
    """A random order of 0 … size - 1 that needs no table.

    `permutation[i]` is computed on its own, in constant time and memory: a four-round Feistel network over
    the smallest even number of bits that holds `size`, walked until it lands inside (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains").
    """

    __slots__ = ("_half", "_key", "_mask", "size")

    def __init__(self, size: int, key: bytes) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, not {size}")
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._key = [int.from_bytes(key[8 * r : 8 * r + 8], "little") for r in range(4)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} is outside 0 … {self.size - 1}")
        value = index
        while True:
            left, right = value >> self._half, value & self._mask
            for key in self._key:
                left, right = right, left ^ (_mix(right ^ key) & self._mask)
            value = (left << self._half) | right
            if value < self.size:
                return value


def _mix(x: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)


def permuted(index: int, size: int, seed: int, *parts: str | int) -> int:
    """Element `index` of an endless walk over 0 … size - 1: all of them, then all in a new order, and so on."""
    epoch, place = divmod(index, size)
    return Permutation(size, digest_key(seed, *parts, "epoch", epoch))[place]
