"""The demo over several seeds: whether its claims hold, and by how much.

    python benchmarks/demo.py --seeds 1 2 3 --out docs/results/demo.md

Runs `instructalign demo` once per seed (it decides the replay examples, the held-out sentences and all order), and
writes one table of all seeds with the claims and whether each holds.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from instructalign.files import write_text
from instructalign.run_folder import versions
from instructalign.toy.demo import RUNS, run_demo
from instructalign.types import Score

GROUPS = ("L1", "L2", "L3")
Table = dict[str, dict[str, float]]


def table(rows: Sequence[Score], task: str) -> Table:
    """Weighted F1 in points by run and group of languages."""
    found: Table = {}
    for row in rows:
        if row.task == task and not row.language and row.metric == "f1_weighted" and row.group in GROUPS:
            found.setdefault(row.run, {})[row.group] = 100 * row.value
    return found


def claims(scores: Table) -> list[tuple[str, float, bool]]:
    """The demo's claims, each with its number in points of F1."""
    base, plain, replay, mono = (scores[name] for name in ("base", *(name.replace(" ", "-") for name in RUNS)))
    gain, mono_gain = replay["L2"] - base["L2"], mono["L2"] - base["L2"]
    return [
        ("without replay L1 falls by 30 or more", base["L1"] - plain["L1"], base["L1"] - plain["L1"] >= 30),
        ("with replay L1 falls by 2 or less", base["L1"] - replay["L1"], base["L1"] - replay["L1"] <= 2),
        ("crosslingual objectives raise L2 by 20 or more", gain, gain >= 20),
        ("monolingual denoising raises L2 by less than a third of that", mono_gain, mono_gain < gain / 3),
        ("L3 rises", replay["L3"] - base["L3"], replay["L3"] > base["L3"]),
    ]


def render(results: dict[int, tuple[Table, float]], command: str) -> str:
    """All seeds as Markdown."""
    lines = ["# The demo, over seeds", "", f"Made by `{command}`.", ""]
    found = versions()
    lines += [
        f"Python {found['python']}, torch {found['torch']}, transformers {found['transformers']}, "
        f"{platform.machine()}, {len(results)} seeds. Weighted F1 x 100 on toy sentiment, mean over "
        "prompts and the languages of a group.",
        "",
        "| seed | run | L1 known | L2 new | L3 related |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for seed, (scores, _) in results.items():
        for run, groups in scores.items():
            if run not in ("random", "majority"):
                lines.append(
                    f"| {seed} | {run} | " + " | ".join(f"{groups[group]:.1f}" for group in GROUPS) + " |"
                )
    lines += ["", "| claim | " + " | ".join(f"seed {seed}" for seed in results) + " | holds |", "| --- |"]
    lines[-1] += " ---: |" * len(results) + " --- |"
    by_seed = [claims(scores) for scores, _ in results.values()]
    for each in zip(*by_seed, strict=True):
        values = " | ".join(f"{value:+.1f}" for _, value, _ in each)
        held = sum(holds for _, _, holds in each)
        lines.append(f"| {each[0][0]} | {values} | {held} of {len(each)} |")
    seconds = ", ".join(f"{spent:.0f}" for _, spent in results.values())
    lines += ["", f"Seconds per demo on this machine, with other work running: {seconds}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Runs the demos and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/demo-seeds"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=Path("docs/results/demo.md"))
    parser.add_argument("--task", default="toy_sentiment")
    options = parser.parse_args()
    results = {}
    for seed in options.seeds:
        began = time.monotonic()
        report = run_demo(options.runs / f"seed-{seed}", seed=seed)
        results[seed] = (table(report.rows, options.task), time.monotonic() - began)
        for claim, value, holds in claims(results[seed][0]):
            print(f"seed {seed}: {claim}: {value:+.1f} ({'holds' if holds else 'DOES NOT HOLD'})", flush=True)
    seeds = " ".join(map(str, options.seeds))
    text = render(results, f"python benchmarks/demo.py --seeds {seeds}")
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
