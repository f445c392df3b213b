"""How hard the wrong sentences of XSS are: random ones beside hard ones, on FLORES-200.

    python benchmarks/negatives.py --out docs/results/negatives.md

For each wrong sentence: the share of words that it has in common with the right one (Jaccard), and the ratio of
their lengths in characters (1 is the same length); means with their standard errors over 2 000 examples.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from instructalign.config import Entry, LanguagesConfig, NoiseConfig
from instructalign.data import Corpus, read_corpora
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Context
from instructalign.instructions.objectives.xss import XSS
from instructalign.instructions.segmentation import words
from instructalign.randomness import Draws, digest_key
from machine import describe, put

LANGUAGES = LanguagesConfig(known=["eng"], new=["jav", "sun", "min", "ace", "bjn", "ban", "bug"])
EXAMPLES = 2000


def negatives(corpus: Corpus, objective: XSS) -> Iterator[tuple[str, str]]:
    """Right and wrong sentences."""
    context, key = Context(corpus, Noise(NoiseConfig()), 42), digest_key(42)
    index = made = 0
    while made < EXAMPLES:
        row, target = corpus[index % len(corpus)], LANGUAGES.new[index % len(LANGUAGES.new)]
        slots, answer = objective.make(row, "eng", target, Draws(key, index), context)
        index += 1
        if answer == "no":
            made += 1
            yield row.texts[target], slots["second"]


def mean(values: Sequence[float]) -> str:
    """A mean with its standard error."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) / len(values) ** 0.5:.3f}"


def table(corpus: Corpus) -> Iterator[str]:
    """One line for each kind of negative."""
    yield "| negatives | common words | ratio of lengths |\n| --- | ---: | ---: |"
    for name, objective in (("random", XSS(negatives="random")), ("hard", XSS(negatives="hard"))):
        overlaps, ratios = [], []
        for right, wrong in negatives(corpus, objective):
            here, there = set(words(right.casefold())), set(words(wrong.casefold()))
            overlaps.append(len(here & there) / len(here | there))
            ratios.append(min(len(right), len(wrong)) / max(len(right), len(wrong)))
        yield f"| {name} | {mean(overlaps)} | {mean(ratios)} |"


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flores = Path("../shared/data/flores200")
    parser.add_argument("--flores", type=Path, default=flores, help="folder of FLORES-200, dev and devtest")
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    given = parser.parse_args()
    entry = Entry(name="flores", options={"path": given.flores, "splits": ["dev", "devtest"]})
    corpus = read_corpora([entry], [*LANGUAGES.known, *LANGUAGES.new])
    parts = [
        "# Hard negatives for XSS",
        f"Made by `python benchmarks/negatives.py {' '.join(sys.argv[1:])}` on {describe('regex')}.",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "\n".join(table(corpus)),
    ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
