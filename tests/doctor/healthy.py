"""A project in which all is well, to be made wrong in one way at a time."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from instructalign.config import Config
from instructalign.config_file import build_config

ENGLISH = (
    ["the food", "the place", "the house", "the road"],
    ["is", "was", "stays"],
    ["good", "clean", "here", "old"],
)
JAVANESE = (
    ["panganane", "panggonane", "omahe", "dalane"],
    ["iku", "wingi", "tetep"],
    ["enak", "resik", "kene", "lawas"],
)
DAYS = ["today", "now", "again", "too", "still", "soon", "there", "also", "since", "then", "ever", "yet"]
DINA = ["saiki", "mau", "maneh", "uga", "isih", "enggal", "kana", "ya", "wiwit", "banjur", "tau", "durung"]


def sentences() -> list[tuple[str, str]]:
    """576 pairs of an English and a Javanese sentence, no two alike."""
    english = [" ".join(words) for words in product(*ENGLISH, DAYS)]
    javanese = [" ".join(words) for words in product(*JAVANESE, DINA)]
    return list(zip(english, javanese, strict=True))


def write_task(folder: Path, languages: list[str], **changes: Any) -> None:
    """A task file with eight short items in each language."""
    task = {
        "name": "reviews",
        "title": "Reviews",
        "source": "ours",
        "licence": "CC0",
        "data": {"format": "csv", "path": "reviews-{name}.csv"},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": {code: code for code in languages},
        "labels": {"good": {"eng": "good", "ind": "baik"}, "bad": {"eng": "bad", "ind": "buruk"}},
        "prompts": {"en-1": {"language": "eng", "prompt": "{text}\nGood or bad?"}},
        **changes,
    }
    (folder / "reviews.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    for code in languages:
        write_items(folder, code, [f"{code} sample {number}" for number in range(8)])


def write_items(folder: Path, language: str, texts: list[str]) -> None:
    with (folder / f"reviews-{language}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([number, text, "good" if number % 2 else "bad"] for number, text in enumerate(texts))


def write_corpus(folder: Path, rows: list[tuple[str, str]]) -> None:
    text = "English\tJavanese\n" + "".join(f"{one}\t{other}\n" for one, other in rows)
    (folder / "corpus.tsv").write_text(text, encoding="utf-8")


def write_project(folder: Path) -> None:
    """The files of the project."""
    write_corpus(folder, sentences())
    write_task(folder, ["eng", "jav", "mad"])
    past = [{"inputs": f"is {number} a number?", "targets": "yes, it is one"} for number in range(100)]
    (folder / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")


def project_config(folder: Path, base: Path, *overrides: str) -> Config:
    """The configuration of the project, with keys of it replaced."""
    settings: dict[str, Any] = {
        "model": {"base": str(base)},
        "languages": {"known": ["eng"], "new": ["jav"], "related": ["mad"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "English", "jav": "Javanese"}}],
        "instructions": {"heldout": 20},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 100},
        "training": {"steps": 200, "batch_size": 8, "max_length": 320, "report_to": []},
        "evaluation": {"tasks": ["reviews.yaml"], "data": "."},
    }
    return build_config(settings, folder=folder, overrides=overrides)
