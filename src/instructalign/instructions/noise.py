"""Noise for the denoising objectives (arXiv 2305.13627, section 3.1, and the published scripts).

For each sentence a chain of operations is drawn and applied in the configured order.
"""

from __future__ import annotations

from itertools import accumulate

from instructalign.config import NoiseConfig
from instructalign.instructions.segmentation import segment
from instructalign.randomness import Draws

_WHOLE = 1 << 32  # what `Draws.many` counts up to


class Noise:
    """Makes sentences noisy as configured.

    With probability 0 every text is unchanged; no text loses all its units.
    """

    def __init__(self, config: NoiseConfig) -> None:
        self.mask = config.mask
        self._chains = [tuple(chain.split("+")) for chain, weight in config.mixture.items() if weight > 0]
        self._cumulative = list(accumulate(weight for weight in config.mixture.values() if weight > 0))
        self._off = config.probability == 0
        self._hit = round(config.probability * _WHOLE)
        # Spans: a Markov chain over the units (in a span or not), begun in its stationary state. So every unit
        # is masked with exactly `probability`, and the lengths are geometric with mean `span_length`.
        length, p = config.span_length, config.probability
        begin = p / (p + length * (1 - p))
        self._begin = round(begin * _WHOLE)
        self._continue = round((1 - 1 / length) * _WHOLE)
        self._restart = self._continue + round(begin / length * _WHOLE)

    def __call__(self, text: str, draws: Draws) -> str:
        """The text with one chain of noise, drawn by its weight."""
        if self._off:
            return text
        pieces = segment(text)
        for operation in self._chains[draws.weighted(self._cumulative)]:
            if operation == "infill":
                self._infill(pieces, draws)
            elif operation == "delete":
                self._delete(pieces, draws)
            elif operation == "permute":
                _permute(pieces, draws)
            else:
                self._span(pieces, draws)
        return "".join(pieces)

    def _infill(self, pieces: list[str], draws: Draws) -> None:
        """Each unit becomes the mask with the configured probability."""
        hit, mask = self._hit, self.mask
        units = pieces[1::2]
        pieces[1::2] = [mask if x < hit else unit for x, unit in zip(draws.many(len(units)), units, strict=True)]

    def _delete(self, pieces: list[str], draws: Draws) -> None:
        """Each unit is deleted with the configured probability, with the space before it; one always stays."""
        count = len(pieces) // 2
        hit = self._hit
        gone = [i for i, x in enumerate(draws.many(count)) if x < hit]
        if gone and len(gone) == count:
            del gone[draws.below(count)]
        kept: list[str] = []
        start = 0
        for i in gone:
            kept += pieces[start : 2 * i + 1]
            kept[-1] = kept[-1].rstrip() + pieces[2 * i + 2]
            start = 2 * i + 3
        pieces[:start] = kept
        if gone and gone[0] == 0:
            pieces[0] = pieces[0].lstrip()

    def _span(self, pieces: list[str], draws: Draws) -> None:
        """Runs of units, with the text between them, become one mask each."""
        kept = pieces[:1]
        begin, masked = self._hit, False
        for unit, gap, x in zip(pieces[1::2], pieces[2::2], draws.many(len(pieces) // 2), strict=True):
            if masked and x < self._continue:
                kept[-1] = gap
                continue
            masked = x < (self._restart if masked else begin)
            begin = self._begin
            kept += (self.mask if masked else unit, gap)
        pieces[:] = kept


def _permute(pieces: list[str], draws: Draws) -> None:
    """All units are permuted; the text between them stays."""
    units = pieces[1::2]
    numbers = draws.many(len(units))
    pieces[1::2] = [units[i] for i in sorted(range(len(units)), key=numbers.__getitem__)]
