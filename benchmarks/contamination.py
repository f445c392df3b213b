"""What leaks from public training sets into public test sets of Indonesian and its neighbours.

    python benchmarks/contamination.py --data ../shared/data --out docs/results/contamination.md

Each training set is checked against every language of each task that ships with the package and lies in the data
folder (test splits). *Exact*: a training text has the item's words, but for case and punctuation. *Near*: at least
eight tenths of the item's runs of five characters stand in one training text. *Id*: a training row has the item's
id, so that the item may be there in another language. A line is given for each task with a leak, with the numbers
of the language that has the most.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from instructalign.data import ItemIndex, ItemText, check_texts
from instructalign.evaluation.task_items import file_of, read_items
from instructalign.evaluation.tasks import Task, load_task, task_names
from instructalign.files import read_jsonl, read_lines
from instructalign.plugins import FORMATS
from instructalign.types import Counts
from machine import describe, put

Texts = Iterable[tuple[str, list[str]]]

NUSAX = {
    "ind": "indonesian",
    "ace": "acehnese",
    "bjn": "banjarese",
    "eng": "english",
    "mad": "madurese",
    "sun": "sundanese",
    "ban": "balinese",
    "bug": "buginese",
    "jav": "javanese",
    "min": "minangkabau",
    "bbc": "toba_batak",
}


def training_sets(data: Path) -> Iterator[tuple[str, Texts]]:
    """The training sets of the folder: their names and texts."""
    for split in ("train", "test"):
        path = data / f"nusax/mt/{split}.csv"
        yield f"NusaX mt {split}", rows("csv", list(NUSAX), path=path, columns=NUSAX, id=1)
    for code in ("jav", "min", "sun"):
        path = data / f"nusatranslation/nusa_kalimat-mt-{code}-train.csv"
        columns = {"ind": "ind_text", code: "tgt_text"}
        yield f"NusaTranslation mt train ({code})", rows("csv", ["ind", code], path=path, columns=columns, id="id")
    nine = ["eng", "ind", "sun", "jav", "bug", "ace", "bjn", "ban", "min"]
    yield "FLORES-200 dev and devtest", rows("flores", nine, path=data / "flores200")
    smsa = read_lines(data / "smsa/train.tsv")
    yield "SmSA train", ((str(number), [line.rpartition("\t")[0]]) for number, line in smsa)
    columns = {"ind": "tweet", "qaa": "label"}
    yield "EmoT train", rows("csv", ["ind", "qaa"], path=data / "emot/train.csv", columns=columns)
    p3 = sorted((data / "p3").glob("*.jsonl"))
    yield "P3", ((str(n), [record["inputs"], record["targets"]]) for path in p3 for n, record in read_jsonl(path))


def rows(format: str, languages: list[str], **options: object) -> Texts:
    """The ids and texts of a corpus."""
    checked = FORMATS.check(format, options).options
    return ((row.id, list(row.texts.values())) for row in FORMATS.get(format)(languages, Counts(), **checked))


def test_texts(data: Path) -> Iterator[ItemText]:
    """The texts of every task that lies in the folder."""
    for name in task_names():
        task = load_task(name)
        if not isinstance(task, Task):
            continue
        for language in task.languages:
            path = file_of(task, data, language)
            if path and path.is_file():
                for item in read_items(task, language, data):
                    yield from (ItemText(name, item.id, language, text) for text in item.fields.values())


def table(data: Path) -> Iterator[str]:
    """A line for each training set and task with a leak, then what it took."""
    texts = list(test_texts(data))
    index = ItemIndex(texts)
    sizes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for text in texts:
        sizes[text.task, text.language].add(text.item)
    yield "| training set | task | languages | most in | items | leaked | exact | near | id |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    start, checked = time.process_time(), 0
    for name, training in training_sets(data):
        found = check_texts(training, index)
        checked += found.checked
        numbers = found.table()
        for task in dict.fromkeys(task for task, _ in numbers):
            by_language = {key[1]: ways for key, ways in numbers.items() if key[0] == task}
            most = max(by_language, key=lambda code: by_language[code]["items"])
            ways = by_language[most]
            yield (
                f"| {name} | {task} | {len(by_language)} | {most} | {len(sizes[task, most]):,} "
                f"| **{ways['items']:,}** | {ways['exact']:,} | {ways['near']:,} | {ways['id']:,} |"
            )
    seconds = time.process_time() - start
    yield f"\n{len(texts):,} test texts, {checked:,} training rows, {seconds / checked * 1e6:.0f} µs of CPU a row."


def main() -> None:
    """Checks, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    given = parser.parse_args()
    about = describe("regex")
    parts = [
        "# What leaks from public training sets into public test sets",
        f"Made by `python benchmarks/contamination.py {' '.join(sys.argv[1:])}` on {about}.",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "\n".join(table(given.data)),
    ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
