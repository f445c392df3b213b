"""How many templates each set has, how long they are and how differently they are worded.

    python benchmarks/templates.py --out docs/results/templates.md

Variety is the mean, over all pairs of templates of an objective, of one minus the share of common words: 0 if
all use the same words, 1 if no two share any. Slots do not count as words.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

from instructalign.instructions import load_templates, template_sets, variety
from instructalign.instructions.segmentation import words


def table() -> Iterator[str]:
    """One line for each set and objective."""
    yield "| set | objective | templates | words (median) | variety |\n| --- | --- | ---: | ---: | ---: |"
    for name in template_sets():
        for objective, several in load_templates([name]).items():
            lengths = [len(words(template.prompt)) for template in several]
            spread = f"{variety(several):.2f}" if len(several) > 1 else ""
            yield f"| {name} | {objective} | {len(several)} | {statistics.median(lengths):.0f} | {spread} |"


def main() -> None:
    """Counts, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    given = parser.parse_args()
    about = " ".join((__doc__ or "").split("\n\n", 2)[2].split())
    text = (
        "\n\n".join(["# The templates", "Made by `python benchmarks/templates.py`.", about, "\n".join(table())])
        + "\n"
    )
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
