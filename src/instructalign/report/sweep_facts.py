"""What the sections of the report on a sweep are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from instructalign.evaluation.variance import Spread
from instructalign.report.cells import Sweep, find
from instructalign.report.plots import pareto_front
from instructalign.report.tables import FORGETTING, GAIN, GROUPS, unique
from instructalign.types import Score


@dataclass(frozen=True, slots=True)
class Against:
    """The best of the cells with several seeds, minus each other such cell.

    Attributes:
        best: its name.
        others: by cell and group, the difference with its interval over seeds and items.
    """

    best: str
    others: Mapping[str, Mapping[str, Spread]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sections are made from.

    Attributes:
        sweep: the sweep.
        rows: the summary of its rows over seeds.
        against: by task, the best cell against the others; without a task where nothing could be compared.
    """

    sweep: Sweep
    rows: Sequence[Score]
    against: Mapping[str, Against] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return unique(row.task for row in self.rows if row.group in GROUPS)

    def points(self, task: str) -> dict[str, tuple[float, float]]:
        """Forgetting on L1 and gain on L2 of every cell that has both, in points."""
        found = {}
        for cell in self.sweep.cells:
            loss, gain = (find(self.rows, cell, task, *what) for what in ((FORGETTING, "L1"), (GAIN, "L2")))
            if loss is not None and gain is not None:
                found[cell] = (100 * loss.value, 100 * gain.value)
        return found

    def front(self, task: str) -> list[str]:
        """The cells that no other beats in both, least forgetting first."""
        points = self.points(task)
        names = list(points)
        return [names[i] for i in pareto_front(list(points.values()), ("low", "high"))]

    def ranked(self, task: str) -> list[str]:
        """The cells by gain on L2 less forgetting on L1, best first; those without come last."""
        points = self.points(task)
        return sorted(
            self.sweep.cells, key=lambda cell: points[cell][0] - points[cell][1] if cell in points else 1e9
        )
