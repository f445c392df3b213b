"""Rounds of back-translation on the toy family, as the folder of a sweep.

    python benchmarks/back_translation.py --out runs/toy-back-translation

Round 0 trains on the pairs alone. For each further round the model of the round before translates monolingual
text of each new language into the first pivot, as `instructalign synthesize --back-translate` does, and the base
is trained anew on the corpus and these pairs, for as many steps. With `round trip`, translations whose own
translation has a chrF++ below 20 beside the sentence are dropped. Repeated, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from instructalign import load_config, run
from instructalign.config import Config
from instructalign.data.corpus import check_entries
from instructalign.files import read_jsonl, write_json, write_text
from instructalign.report import write_report
from instructalign.run_folder import versions
from instructalign.synthesis import back_translate
from instructalign.toy.datasets import read_corpus
from instructalign.toy.family import KNOWN, NEW
from instructalign.types import Counts

CONFIG = Path(__file__).parents[1] / "configs/toy/back-translation.yaml"
PARALLEL = 1000  # sentences of the corpus
ROUND_TRIP = 20.0


def write_texts(config: Config, folder: Path, sentences: int) -> dict[str, Path]:
    """By new language, a file with sentences that the corpus does not have; each language has others."""
    found = {}
    for number, code in enumerate(config.languages.new):
        rows = read_corpus([code], Counts(), rows=sentences, skip=PARALLEL + number * sentences)
        found[code] = folder / f"{code}.txt"
        write_text(found[code], "".join(f"{row.texts[code]}\n" for row in rows))
    return found


def translated(config: Config, model: Path, texts: dict[str, Path], out: Path, round_trip: float | None) -> Config:
    """The configuration with back-translated text beside its corpora."""
    into = config.pivots[0]
    entries = []
    for code, text in texts.items():
        pairs = out / f"{code}.jsonl"
        if not pairs.exists():
            pairs.parent.mkdir(parents=True, exist_ok=True)
            options = {"round_trip": round_trip, "cache": out.parent / "cache"}
            counts = back_translate(config, pairs, model=str(model), text=text, language=code, **options)
            write_json(out / f"{code}.counts.json", {"read": counts.read, "kept": counts.kept, **counts.dropped})
        entries.append({"format": "jsonl", "path": pairs, "label": f"back-translated-{code}", "synthetic": [into]})
    return config.model_copy(update={"corpora": [*config.corpora, *check_entries(entries)]})


def translations(folders: Sequence[Path]) -> str:
    """How many translations were kept, and which share of their words is in the true translation, as a table."""
    truth = {}
    for row in read_corpus(KNOWN + NEW, Counts(), rows=10_000, skip=PARALLEL):
        truth |= {row.texts[code]: row.texts for code in NEW}
    lines = ["| pairs | sentences | kept | words right |", "| --- | ---: | ---: | ---: |"]
    for folder in folders:
        counts = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.counts.json"))]
        right: list[bool] = []
        for file in folder.glob("*.jsonl"):
            for _, pair in read_jsonl(file):
                new, (into,) = next(pair[code] for code in NEW if code in pair), pair["synthetic"]
                right += [word in truth[new][into].split() for word in pair[into].split()]
        read, kept = (sum(each[key] for each in counts) for key in ("read", "kept"))
        lines.append(f"| {folder.name.replace('_', ', ')} | {read:,} | {kept:,} | {fmean(right):.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=1000, help="monolingual sentences of each language")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", nargs="*", default=[], help="keys of the configuration, as key=value")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    (out / "data").mkdir(parents=True, exist_ok=True)
    configs = {seed: load_config(CONFIG, [*arguments.set, f"seed={seed}"]) for seed in arguments.seeds}
    texts = write_texts(configs[arguments.seeds[0]], out / "data", arguments.sentences)
    cells = []

    def cell(name: str, seed: int, config: Config) -> Path:
        folder = out / "cells" / f"{name.replace(' ', '-')}_seed={seed}"
        began = time.monotonic()
        if not (folder / "report.json").exists():
            base = next(out.glob("cells/round-0_*/evaluation/base"), None)
            if not run(config, folder, base_evaluation=base).finished:
                raise SystemExit(f"{folder.name} was stopped; the same command resumes")
        seconds = round(time.monotonic() - began, 1)
        entry = {"name": name, "seed": seed, "at": {}, "folder": folder.name, "key": "", "status": "done"}
        cells.append({**entry, "error": "", "seconds": seconds})
        write_json(out / "sweep.json", {"config": CONFIG.name, "versions": versions(), "axes": [], "cells": cells})
        print(f"{folder.name}: {seconds} s", flush=True)
        return folder

    first = {}
    for seed, config in configs.items():
        first[seed] = model = cell("round 0", seed, config)
        for number in (1, 2):
            pairs = out / "data" / f"round-{number}_seed={seed}"
            model = cell(f"round {number}", seed, translated(config, model, texts, pairs, None))
    for seed, config in configs.items():
        pairs = out / "data" / f"round-trip_seed={seed}"
        cell("round 1, round trip", seed, translated(config, first[seed], texts, pairs, ROUND_TRIP))
    write_report([out])
    print(translations(sorted(out.glob("data/round-*"))))


if __name__ == "__main__":
    main()
