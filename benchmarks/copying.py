"""What chrF++ is worth on a set of translations: that of copying the source, and of another sentence's reference.

    python benchmarks/copying.py RUN/evaluation/adapted/translations

A model whose translations score no more knows nothing that counts: related languages share words and letters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Prints a row for each direction."""
    from sacrebleu.metrics import CHRF

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    metric = CHRF(word_order=2)
    print("| direction | translations | the source itself | another reference |\n| --- | ---: | ---: | ---: |")
    for file in sorted(parser.parse_args().folder.glob("*.jsonl")):
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        references = [record["reference"] for record in records]
        texts = [[record[key] for record in records] for key in ("translation", "text")]
        scores = [
            metric.corpus_score(each, [references]).score for each in (*texts, references[1:] + references[:1])
        ]
        print(f"| {file.stem} | {' | '.join(f'{score:.1f}' for score in scores)} |")


if __name__ == "__main__":
    main()
