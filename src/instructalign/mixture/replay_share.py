"""How much of the training is due to replay: a share that holds or changes, and its exact sum over a beginning."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import cos, lcm, pi

from instructalign.config import ReplayConfig, ShareScheduleConfig

COSINE_PIECES = 256  # straight pieces for a cosine: nowhere further from it than 1e-5 of the way
_COSINE_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the training in which the share goes evenly from `start` to `end`, or holds.

    Attributes:
        begin: the example it begins at.
        length: how many examples long it is; 0 for without end, then the share holds.
        start, end: the share at its two ends.
    """

    begin: int
    length: int
    start: Fraction
    end: Fraction


class Share:
    """The planned share of replay as a function of the position, made of straight pieces.

    `due(n)`, the sum of the share over the first n examples (the integral of the straight pieces), is exact:
    integers over a common denominator, so that no platform rounds it otherwise.

    Args:
        pieces: in order, each beginning where the one before ends; the last without end.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._begins = [piece.begin for piece in pieces]
        self._terms: list[tuple[int, int, int, int]] = []
        before = Fraction(0)
        for piece in pieces:
            slope = (piece.end - piece.start) / (2 * piece.length) if piece.length else Fraction(0)
            bottom = lcm(before.denominator, piece.start.denominator, slope.denominator)
            tops = (int(part * bottom) for part in (before, piece.start, slope))
            self._terms.append((*tops, bottom))  # type: ignore[arg-type]
            before += piece.length * (piece.start + piece.length * slope)

    def due(self, count: int) -> Fraction:
        """The share summed over the first `count` examples."""
        top, bottom = self._sum(count)
        return Fraction(top, bottom)

    def whole(self, count: int) -> int:
        """`due`, rounded down."""
        top, bottom = self._sum(count)
        return top // bottom

    def at(self, index: int) -> float:
        """The share at one example: what `due` grows by there."""
        place = bisect_right(self._begins, index) - 1
        _, start, slope, bottom = self._terms[place]
        return (start + slope * (2 * (index - self._begins[place]) + 1)) / bottom

    def mean(self, count: int) -> float:
        """The mean share of the first `count` examples."""
        return float(self.due(count) / count)

    def _sum(self, count: int) -> tuple[int, int]:
        place = bisect_right(self._begins, count) - 1
        before, start, slope, bottom = self._terms[place]
        within = count - self._begins[place]
        return before + within * (start + within * slope), bottom


def constant(share: float) -> Share:
    """A share that holds."""
    exact = exactly(share)
    return Share([Piece(0, 0, exact, exact)])


def planned(config: ReplayConfig, steps: int, batch_size: int) -> Share:
    """The share that a configuration asks for.

    Args:
        config: says the share and its schedule.
        steps: optimizer steps of the training, which a share that goes from one value to another takes.
        batch_size: examples of a step.
    """
    if config.schedule is None:
        return constant(config.share)
    if config.schedule.stages:
        return _staged(exactly(config.share), config.schedule, batch_size)
    return _going(exactly(config.share), config.schedule, steps * batch_size)


def _staged(first: Fraction, schedule: ShareScheduleConfig, batch_size: int) -> Share:
    stages = [(0, first), *((stage.at * batch_size, exactly(stage.share)) for stage in schedule.stages or ())]
    ends = [begin for begin, _ in stages[1:]] + [stages[-1][0]]
    return Share([Piece(begin, end - begin, x, x) for (begin, x), end in zip(stages, ends, strict=True)])


def _going(first: Fraction, schedule: ShareScheduleConfig, total: int) -> Share:
    last = exactly(schedule.to or 0.0)
    count = 1 if schedule.shape == "linear" else min(COSINE_PIECES, total)
    places = [total * k // count for k in range(count + 1)]
    done = [Fraction(k) if count == 1 else _half_cosine(places[k], total) for k in range(count + 1)]
    pieces = [
        Piece(places[k], places[k + 1] - places[k], *(first + (last - first) * part for part in done[k : k + 2]))
        for k in range(count)
    ]
    return Share([*pieces, Piece(total, 0, last, last)])


def _half_cosine(place: int, total: int) -> Fraction:
    """Half a wave from 0 to 1 at a place; rounded, since platforms differ in a cosine's last digits."""
    return Fraction(str(round((1 - cos(pi * place / total)) / 2, _COSINE_DIGITS)))


def exactly(share: float) -> Fraction:
    """A share as it was written: 0.1 is a tenth, not the float next to it."""
    return Fraction(str(share))
