"""Choosing sentences to translate: speed, memory, and coverage of other text against a random choice.

    python benchmarks/select_sentences.py --flores ../shared/data/flores200 --out docs/results/select.md

Coverage: sentences are chosen from the English side of FLORES-200's dev set, then their translations are taken;
covered is the share of the words, and of the words and pairs of words, of the devtest set that occur in them.
The interval is of the difference to the mean of 100 random choices of the same budget, resampling the devtest's
sentences (2,000 resamples, 95 %). Speed: `select_sentences` in a process of its own on made-up sentences (16 words
on average, of 100,000 words by Zipf's law); memory is the most that the process ever had in use (VmHWM).

What a model learns from the chosen sentences is another benchmark's: `select_learning.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instructalign.data.normalization import fold
from instructalign.instructions.segmentation import words
from machine import describe, put

LANGUAGES = {"eng": "eng_Latn", "ind": "ind_Latn", "jav": "jav_Latn", "ban": "ban_Latn"}
CHILD = """
import json, sys, time
from pathlib import Path
from instructalign.sentence_selection import select_sentences
began = time.process_time()
choice = select_sentences(Path(sys.argv[1]), source="eng", target="heg", budget=int(sys.argv[2]), longest=60)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps([time.process_time() - began, int(peak) / 1024, len(choice.sentences)]))
"""


def write_sentences(path: Path, count: int) -> None:
    """Made-up sentences, one a line."""
    draw = np.random.default_rng(1)
    names = np.array([f"w{number:x}" for number in range(100_000)])
    shares = 1 / np.arange(1, len(names) + 1)
    with path.open("w") as file:
        for _ in range(count // 10_000):
            lengths = draw.integers(5, 28, 10_000)
            picked = iter(names[draw.choice(len(names), lengths.sum(), p=shares / shares.sum())].tolist())
            file.writelines(" ".join(next(picked) for _ in range(n)) + "\n" for n in lengths.tolist())


def ngrams(text: str, order: int) -> list[tuple[str, ...]]:
    """The n-grams of words of a text, up to a length."""
    found = words(fold(text))
    return [tuple(found[i : i + n]) for n in range(1, order + 1) for i in range(len(found) - n + 1)]


def choose(folder: Path, budget: str) -> list[int]:
    """The lines that `instructalign select` chooses."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out.tsv"
        command = [sys.executable, "-m", "instructalign", "select", str(folder / "dev" / "eng_Latn.dev")]
        command += ["--budget", budget, "--language", "heg", "--words", "3-99", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        return [int(line.split("\t")[0]) - 1 for line in out.read_text("utf-8-sig").splitlines()[1:]]


def coverage(folder: Path, budget: str) -> list[str]:
    """The rows of the table for one budget."""
    chosen, draw, size = choose(folder, budget), np.random.default_rng(1), int(budget.rstrip("w"))
    lines = {code: (folder / "dev" / f"{name}.dev").read_text().splitlines() for code, name in LANGUAGES.items()}
    tests = {code: (folder / "devtest" / f"{n}.devtest").read_text().splitlines() for code, n in LANGUAGES.items()}
    costs = np.array([len(words(line)) if "w" in budget else 1 for line in lines["eng"]])
    orders = [draw.permutation(len(costs)) for _ in range(100)]
    randoms = [order[np.cumsum(costs[order]) <= size] for order in orders]
    rows = []
    for code in LANGUAGES:
        for order in (1, 2):
            pieces = [ngrams(line, order) for line in lines[code]]
            tested = [ngrams(line, order) for line in tests[code]]
            totals = np.array([len(some) for some in tested])

            def hits(numbers: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
                known = {gram for number in numbers for gram in pieces[number]}  # noqa: B023 (used in this turn)
                return np.array([sum(gram in known for gram in some) for some in tested])  # noqa: B023

            ours, others = hits(chosen), np.mean([hits(each) for each in randoms], axis=0)
            some = draw.integers(0, len(totals), (2000, len(totals)))
            gains = 100 * (ours - others)[some].sum(1) / totals[some].sum(1)
            low, high = np.quantile(gains, [0.025, 0.975])
            share, mean = 100 * ours.sum() / totals.sum(), 100 * others.sum() / totals.sum()
            rows.append(
                f"| {budget} | {len(chosen)} | {code} | {order} | {mean:.1f} | {share:.1f} | "
                f"**{share - mean:+.1f}** ({low:+.1f} to {high:+.1f}) |"
            )
    return rows


def speed(count: int, budget: int) -> str:
    """A row of the table of speed."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "corpus.txt"
        write_sentences(path, count)
        result = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(budget)], capture_output=True, text=True
        )
        seconds, memory, chosen = json.loads(result.stdout)
    return f"| {count:,} | {chosen:,} | {seconds:.1f} | {memory:.0f} |"


def main() -> None:
    """Measures and writes the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flores", type=Path, required=True)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--budgets", default="100,300,2000w,6000w")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [row for budget in options.budgets.split(",") for row in coverage(options.flores, budget)]
    speeds = [speed(int(size), 1000) for size in options.sizes.split(",")]
    head = "| budget | sentences | language | n-grams up to | random, % | select, % | difference, points |"
    put(
        [
            "# Choosing sentences to translate",
            f"Made by `python benchmarks/select_sentences.py --flores FOLDER` on {describe('numpy')}.",
            *(" ".join(part.split()) for part in str(__doc__).split("\n\n")[2:]),
            "\n".join([head, "| --- | ---: | --- | ---: | ---: | ---: | ---: |", *rows]),
            "\n".join(["| sentences | chosen | CPU s | memory, MB |", "| ---: | ---: | ---: | ---: |", *speeds]),
        ],
        options.out,
    )


if __name__ == "__main__":
    main()
