"""What a model learns from sentences that `instructalign select` chose, beside as many chosen at random.

    python benchmarks/select_learning.py --family toy --out runs/select-toy
    python benchmarks/select_learning.py --family flores --out runs/select-flores    after benchmarks/small_base.py

By seed and budget, two runs: on sentences that `select_sentences` takes from a pool, and on a random sample of the
same pool. Everything else is equal. On the toy family each seed has a pool of its own, of 5,000 sentences; of
FLORES-200 the pool is the dev set (997 sentences), and the seeds share it. Interrupted, the same command resumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instructalign import load_config, run
from instructalign.config import Config
from instructalign.data.corpus import check_entries, read_entry
from instructalign.files import write_json, write_jsonl, write_text
from instructalign.report import write_report
from instructalign.report.sweep_results import read_sweep
from instructalign.run_folder import versions
from instructalign.sentence_selection import select_sentences
from instructalign.types import Counts, ParallelRow
from machine import put
from paired_cells import read_cells, table

HERE = Path(__file__).parents[1]
TOY_POOL = 5000
TRANSLATION = """\
name: toy_translation
kind: translation
title: Translation in the toy family
split: test
pivot: qka
corpus: {format: toy, rows: 60, skip: 150000}
languages: [qka, qna, qnb]
prompts:
  into: {language: eng, prompt: "Into {target}: {text} ="}
"""
TOY = ["training.steps=200", "instructions.heldout=0"]
FLORES = [
    "languages.known=[eng, ind]",
    "languages.new=[jav, sun, ban, min]",
    "languages.related=[bjn, mad]",
    "instructions.heldout=0",
    "training.steps=300",
    "evaluation.tasks=[flores_text, flores_translation]",
    "evaluation.prompts=[en-1]",
    "evaluation.items=100",
]


def configured(family: str, seed: int, out: Path) -> Config:
    """The configuration of a seed, but for its corpus."""
    if family == "flores":
        return load_config(HERE / "configs/nusantara-small.yaml", [*FLORES, f"seed={seed}"])
    task = out / "toy_translation.yaml"
    write_text(task, TRANSLATION)
    tasks = f"evaluation.tasks=[toy_sentiment, {task}]"
    return load_config(HERE / "configs/toy/data-size.yaml", [*TOY, tasks, f"seed={seed}"])


def pool(family: str, config: Config, seed: int) -> list[ParallelRow]:
    """The sentences to choose from, in all languages."""
    if family == "toy":
        (entry,) = check_entries([{"format": "toy", "rows": TOY_POOL, "skip": seed * 10_000}])
    else:
        (entry,) = check_entries([{**config.corpora[0].options, "format": "flores", "splits": ["dev"]}])
    return list(read_entry(entry, "pool", [*config.pivots, *config.languages.new], Counts()))


def chosen(
    rows: Sequence[ParallelRow], source: str, budget: int, seed: int, by: str, folder: Path
) -> list[ParallelRow]:
    """The rows within the budget: those that cover most, or at random."""
    if by == "random":
        return [rows[i] for i in np.random.default_rng(seed).choice(len(rows), budget, replace=False)]
    text = folder / f"pool_seed={seed}.txt"
    write_text(text, "".join(f"{row.texts[source]}\n" for row in rows))
    choice = select_sentences(text, source=source, target="heg", budget=budget, longest=60)
    first = {}
    for row in rows:
        first.setdefault(row.texts[source], row)
    return [first[sentence] for _, sentence in choice.sentences]


def main() -> None:
    """Runs what is missing, and writes the report and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--family", choices=["toy", "flores"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--budgets", type=int, nargs="+", help="sentences (default: 30 100 300 1000; flores 100 300)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    (out / "data").mkdir(parents=True, exist_ok=True)
    budgets = arguments.budgets or ([30, 100, 300, 1000] if arguments.family == "toy" else [100, 300])
    cells = []
    for seed in arguments.seeds:
        config = configured(arguments.family, seed, out)
        rows = pool(arguments.family, config, seed)
        for budget in budgets:
            for by in ("random", "select"):
                name, began = f"{by} {budget}", time.monotonic()
                folder, data = (out / kind / f"{by}-{budget}_seed={seed}" for kind in ("cells", "data"))
                if not (folder / "report.json").exists():
                    found = chosen(rows, config.pivots[0], budget, seed, by, out / "data")
                    write_jsonl(data.with_suffix(".jsonl"), (row.texts for row in found))
                    entries = check_entries([{"format": "jsonl", "path": data.with_suffix(".jsonl")}])
                    base = next(out.glob("cells/*/evaluation/base"), None)
                    changed = config.model_copy(update={"corpora": entries})
                    if not run(changed, folder, base_evaluation=base).finished:
                        raise SystemExit(f"{folder.name} was stopped; the same command resumes")
                seconds = round(time.monotonic() - began, 1)
                entry = {"name": name, "seed": seed, "at": {}, "folder": folder.name, "key": "", "status": "done"}
                cells.append({**entry, "error": "", "seconds": seconds})
                write_json(
                    out / "sweep.json",
                    {"config": arguments.family, "versions": versions(), "axes": [], "cells": cells},
                )
                print(f"{folder.name}: {seconds} s", flush=True)
    write_report([out])
    sweep = read_sweep(out)
    parts, results = [], read_cells(sweep)
    for task in sweep.tasks:
        for budget in budgets:
            lines = table(sweep, results, task, f"random {budget}").splitlines()
            parts.append("\n".join([task, "", *lines[:2], *(line for line in lines if f" {budget} |" in line)]))
    put(parts, out / "paired.md")


if __name__ == "__main__":
    main()
