"""A sweep's cells against one of them, seed by seed and item by item.

    python benchmarks/paired_cells.py runs/toy-monolingual --control "pairs alone"

The sweep's own report takes the seeds of two cells as drawn independently. Runs with the same seed share their
sentences, what is held out and the replay buffer; here each seed's difference is one observation, and the interval
is over seeds and items (`evaluation.variance`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from instructalign.evaluation.bootstrap import Bootstrap, BootstrapScores
from instructalign.evaluation.gains import check_alike
from instructalign.evaluation.model_results import read_results
from instructalign.evaluation.run_comparison import Samples
from instructalign.evaluation.score_table import groups_of
from instructalign.evaluation.variance import over_levels
from instructalign.report.number_format import interval_text, signed
from instructalign.report.sweep_results import SWEEP_FILE, SweepResults, read_sweep
from machine import put

Cells = dict[str, dict[int, Samples]]
"""By cell and seed, what the adapted model did, by task and language."""


def read_cells(sweep: SweepResults) -> Cells:
    """The samples of every finished run."""
    found: Cells = {}
    for run in sweep.runs:
        model = read_results(sweep.folder / "cells" / run.folder / "evaluation" / "adapted", run.cell)
        if model is None:
            raise SystemExit(f"{run.folder}: its adapted model was not evaluated")
        found.setdefault(run.cell, {})[run.seed] = model.samples()
    return found


def table(sweep: SweepResults, cells: Cells, task: str, control: str) -> str:
    """Each cell minus the control by group, over the seeds that both have, and the scores of each seed.

    In points, or in the unit of bits per byte, of which a difference is what is saved.
    """
    bootstrap = Bootstrap(1000, 0)
    groups = {group: list(codes) for group, codes in groups_of(sweep.rows, task).items()}
    shown_group = "L2" if "L2" in groups else next(iter(groups))
    sample = next(iter(next(iter(cells[control].values()))[task].values()))
    scale, digits = (1, 3) if sample.lower_is_better else (100, 1)
    bounds = (-np.inf, np.inf) if sample.lower_is_better else (-1.0, 1.0)

    def scores(cell: str, seeds: list[int], codes: list[str]) -> BootstrapScores:
        for seed in seeds:
            for code in codes:
                check_alike(cells[control][seed][task][code], cells[cell][seed][task][code])
        return np.stack([bootstrap.scores([cells[cell][seed][task][code] for code in codes]) for seed in seeds])

    lines = [
        f"| minus “{control}” | {' | '.join(groups)} | {shown_group} by seed |",
        f"| --- | {'---: | ' * (len(groups) + 1)}".rstrip(),
    ]
    for cell in cells:
        seeds = sorted({*cells[control]} & {seed for seed in cells[cell] if task in cells[cell][seed]})
        if not seeds:
            continue
        shown = []
        for codes in groups.values():
            minus = sample.sign * (scores(cell, seeds, codes) - scores(control, seeds, codes))
            over = over_levels(minus, len(cells[control][seeds[0]][task][codes[0]].items), bounds=bounds)
            value, mark = signed(scale * over.value, digits), "**" if over.excludes_zero else ""
            interval = interval_text(over.low, over.high, digits, scale)
            shown.append("–" if cell == control else f"{mark}{value}{mark} ({interval})")
        values = scale * scores(cell, seeds, groups[shown_group])[:, 0]
        by_seed = ", ".join(f"{value:.{digits}f} ({seed})" for value, seed in zip(values, seeds, strict=True))
        lines.append(f"| {cell} | {' | '.join(shown)} | {by_seed} |")
    return "\n".join(lines)


def main() -> None:
    """Prints or writes a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweep", type=Path, help="a sweep's folder")
    parser.add_argument("--control", required=True, help="the name of the cell that the others are compared with")
    parser.add_argument("--out", type=Path, help="where to write the tables (default: print them)")
    arguments = parser.parse_args()
    if not (arguments.sweep / SWEEP_FILE).is_file():
        raise SystemExit(f"{arguments.sweep} holds no sweep ({SWEEP_FILE} is not there)")
    sweep = read_sweep(arguments.sweep)
    if arguments.control not in sweep.cells:
        raise SystemExit(f"no cell is called {arguments.control!r}; there are {', '.join(sweep.cells)}")
    cells = read_cells(sweep)
    put([f"{task}\n\n{table(sweep, cells, task, arguments.control)}" for task in sweep.tasks], arguments.out)


if __name__ == "__main__":
    main()
