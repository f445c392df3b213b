"""How right the word aligner is: its confident links beside the NusaX lexicon and a positional baseline.

    python benchmarks/align.py --nusax ../shared/data/nusax --out docs/results/align.md

The aligner learns from the sentence pairs of NusaX (1 000 a language, Indonesian and another language) without
the lexicon. A link is judged where the lexicon has its Indonesian word as a single word: it is right where the
other word is among the translations given there. The lexicon lists base forms and not all translations, so
the figures are low bounds. The baseline links each of these words to the word at the same relative place.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from instructalign.instructions.segmentation import words
from instructalign.instructions.word_alignment import train_aligner
from machine import describe, put

Link = tuple[int, int]
Linker = Callable[[Sequence[str], Sequence[str]], list[Link]]


def read_pairs(folder: Path, language: str) -> list[tuple[str, str]]:
    """The sentences of all splits in Indonesian and another language."""
    pairs = []
    for split in ("train", "valid", "test"):
        with (folder / "mt" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            pairs += [(row["indonesian"], row[language]) for row in csv.DictReader(file)]
    return pairs


def read_lexicon(file: Path, language: str) -> dict[str, set[str]]:
    """The single-word translations of single Indonesian words."""
    lexicon: dict[str, set[str]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            here, there = row["indonesian"].strip().casefold(), row[language].strip().casefold()
            if len(words(here)) == len(words(there)) == 1:
                lexicon.setdefault(here, set()).add(there)
    return lexicon


def by_position(source: Sequence[str], target: Sequence[str]) -> list[Link]:
    """Each word linked to the one at the same relative place."""
    return [(i, int((i + 0.5) / len(source) * len(target))) for i in range(len(source)) if target]


def judge(
    pairs: Sequence[tuple[list[str], list[str]]], lexicon: dict[str, set[str]], link: Linker
) -> tuple[int, int, int]:
    """How many links there are, how many the lexicon can judge, and how many it calls right."""
    links = judged = right = 0
    for source, target in pairs:
        for i, j in link(source, target):
            links += 1
            translations = lexicon.get(source[i].casefold())
            if translations:
                judged += 1
                right += target[j].casefold() in translations
    return links, judged, right


def table(folder: Path) -> Iterator[str]:
    """One line a language."""
    yield (
        "| language | links per Indonesian word | judged | precision | baseline, judged | baseline, precision "
        "| seconds to learn |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for file in sorted((folder / "lexicon").glob("*.csv")):
        language = file.stem
        pairs = read_pairs(folder, language)
        cut = [(words(a), words(b)) for a, b in pairs]
        start = time.process_time()
        aligner = train_aligner(pairs)
        seconds = time.process_time() - start
        lexicon = read_lexicon(file, language)
        links, judged, right = judge(cut, lexicon, aligner.links)
        _, base_judged, base_right = judge(cut, lexicon, by_position)
        size = sum(len(source) for source, _ in cut)
        yield (
            f"| {language.replace('_', ' ').title()} | {links / size:.2f} | {judged:,} | **{right / judged:.1%}** "
            f"| {base_judged:,} | {base_right / base_judged:.1%} | {seconds:.1f} |"
        )


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nusax", type=Path, default=Path("../shared/data/nusax"), help="folder with mt and lexicon"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    given = parser.parse_args()
    about = describe("regex", "numpy")
    parts = [
        "# The word aligner beside the NusaX lexicon",
        f"Made by `python benchmarks/align.py {' '.join(sys.argv[1:])}` on {about}.",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "\n".join(table(given.nusax)),
    ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
