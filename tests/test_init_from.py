"""`init --from`: what is found in people's files, and that the configuration made of them runs."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from instructalign.config import Config
from instructalign.config_draft import draft_config
from instructalign.config_file import load_config
from instructalign.data.formats.spreadsheets import write_table
from instructalign.errors import ConfigError, DataError
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import check_config
from test_cli import call
from tiny import save_tiny

PAIRS = [(f"The house number {n} is old", f"Omah angka {n} wis tuwa") for n in range(40)]


def draft(folder: Path, *files: str, **options: Any) -> Config:
    """The configuration drafted for files of a folder, read back and checked as `run` would."""
    made = draft_config([folder / file for file in files], folder=folder, **options)
    (folder / "mine.yaml").write_text(made.text, encoding="utf-8")
    config = load_config(folder / "mine.yaml")
    check_config(config)
    return config


def workbook(path: Path, rows: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    book.save(path)


def write(folder: Path, name: str, lines: list[str]) -> None:
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def unit(one: str, other: str) -> str:
    tuv = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    return f"<tu>{tuv.format('en', one)}{tuv.format('jv', other)}</tu>"


def message(one: str, other: str) -> str:
    return f'msgid "{one}"\nmsgstr "{other}"\n'


FILES: dict[str, tuple[dict[str, list[str]], dict[str, Any]]] = {
    "names, semicolons, other columns": (
        {"a.csv": ["No;English;Javanese;Who;Label", *(f"{n};{a};{b};Ani;good" for n, (a, b) in enumerate(PAIRS))]},
        {},
    ),
    "codes, tabs": ({"a.tsv": ["en\tjv_Latn", *(f"{a}\t{b}" for a, b in PAIRS)]}, {}),
    "a table called .txt": ({"a.txt": ["eng\tjav", *(f"{a}\t{b}" for a, b in PAIRS)]}, {}),
    "JSON lines": (
        {"a.jsonl": [json.dumps({"id": a.replace(" ", "-"), "English": a, "jv": b}) for a, b in PAIRS]},
        {},
    ),
    "JSON lines, translation": (
        {"a.jsonl": [json.dumps({"translation": {"en": a, "jv": b}}) for a, b in PAIRS]},
        {},
    ),
    "line-aligned": ({"a.en-jv.en": [a for a, _ in PAIRS], "a.en-jv.jv": [b for _, b in PAIRS]}, {}),
    "line-aligned, names": ({"English.txt": [a for a, _ in PAIRS], "Javanese.txt": [b for _, b in PAIRS]}, {}),
    "line-aligned, in order": (
        {"side-a.txt": [a for a, _ in PAIRS], "side-b.txt": [b for _, b in PAIRS]},
        {"languages": ["eng", "Javanese"]},
    ),
    "TMX": (
        {"a.tmx": ['<tmx version="1.4"><header/><body>', *(unit(a, b) for a, b in PAIRS), "</body></tmx>"]},
        {},
    ),
    "Markdown": ({"a.md": ["| English | jv |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in PAIRS)]}, {}),
    "gettext": ({"jv.po": [message(a, b) for a, b in PAIRS]}, {}),
    "names that say nothing": (
        {"a.csv": ["Question,Answer", *(f"{a},{b}" for a, b in PAIRS)]},
        {"languages": ["English", "jav"]},
    ),
    "no header": ({"a.csv": [f"{n},{a},{b}" for n, (a, b) in enumerate(PAIRS)]}, {"languages": ["eng", "jav"]}),
}


@pytest.mark.parametrize("case", FILES)
def test_languages_and_columns_are_found(case: str, tmp_path: Path) -> None:
    files, options = FILES[case]
    for name, lines in files.items():
        write(tmp_path, name, lines)
    config = draft(tmp_path, *files, **options)
    assert (config.languages.known, config.languages.new) == (["eng"], ["jav"])
    train, heldout, _ = prepare_corpus(config)
    assert len(heldout) == 4
    texts = {(row.texts["eng"], row.texts["jav"]) for corpus in (train, heldout) for row in corpus}
    assert texts == set(PAIRS)


def test_a_spreadsheet_with_a_title_above_the_names(tmp_path: Path) -> None:
    rows = [["Our sentences"], [], ["No", "English", "Javanese", "Notes"]]
    workbook(tmp_path / "pairs.xlsx", [*rows, *([n, a, b, ""] for n, (a, b) in enumerate(PAIRS))])
    config = draft(tmp_path, "pairs.xlsx")
    (entry,) = config.corpora
    assert (entry.name, entry.options["columns"]) == ("xlsx", {"eng": "English", "jav": "Javanese"})
    assert len(prepare_corpus(config)[0]) == 36
    workbook(tmp_path / "bare.xlsx", [[n, a, b] for n, (a, b) in enumerate(PAIRS)])
    config = draft(tmp_path, "bare.xlsx", languages=["eng", "jav"])
    assert (config.corpora[0].options["columns"], config.corpora[0].options["header"]) == ({"eng": 2, "jav": 3}, 0)
    assert len(prepare_corpus(config)[0]) == 36


def test_columns_are_named_in_other_languages_or_by_order(tmp_path: Path) -> None:
    """A title, names in Indonesian, remarks that are rare or missing: as a newcomer's spreadsheet was."""
    title, pairs = ["Daftar kalimat"], [(n, a, b) for n, (a, b) in enumerate(PAIRS)]
    workbook(tmp_path / "ind.xlsx", [title, ["No", "Bahasa Inggris", "Jawa", "Keterangan"], *map(list, pairs)])
    options = draft(tmp_path, "ind.xlsx").corpora[0].options
    assert options["columns"] == {"eng": "Bahasa Inggris", "jav": "Jawa"}

    remarks = [[n, a, b, "cek" if n % 5 == 0 else ""] for n, a, b in pairs]
    workbook(tmp_path / "own.xlsx", [title, ["No", "Kalimat", "Ngoko", "Catatan"], *remarks])
    config = draft(tmp_path, "own.xlsx", languages=["eng", "jav"])
    assert config.corpora[0].options["columns"] == {"eng": "Kalimat", "jav": "Ngoko"}
    train, heldout, _ = prepare_corpus(config)
    assert {row.texts["eng"] for corpus in (train, heldout) for row in corpus} == {a for a, _ in PAIRS}

    workbook(tmp_path / "none.xlsx", [title, ["No", "", ""], *map(list, pairs)])
    assert len(prepare_corpus(draft(tmp_path, "none.xlsx", languages=["eng", "jav"]))[0]) == 36

    write(tmp_path, "two.csv", ["Kalimat;Ngoko;Krama", *(f"{a};{b};{b} nggih" for a, b in PAIRS)])
    with pytest.raises(ConfigError, match=r"3 columns of text: Kalimat, Ngoko, Krama.*--languages"):
        draft(tmp_path, "two.csv", languages=["eng", "jav"])
    with pytest.raises(ConfigError, match="jav is named twice"):
        draft(tmp_path, "two.csv", languages=["eng", "jav", "jav"])
    config = draft(tmp_path, "two.csv", languages=["eng", "-", "jav"])
    assert config.corpora[0].options["columns"] == {"eng": "Kalimat", "jav": "Krama"}


@pytest.mark.parametrize("ending", ["txt", "sfm", "db"])
def test_toolbox_files_are_known_by_their_markers(tmp_path: Path, ending: str) -> None:
    entries = [f"\\lx {b}\n\\ps n\n\\sn 1\n\\ge {a}\n\\sn 2\n\\ge {a} too\n" for a, b in PAIRS]
    write(tmp_path, f"d.{ending}", ["\\_sh v3.0  400  MDF", *entries])
    config = draft(tmp_path, f"d.{ending}", languages=["jav", "eng"])
    assert config.corpora[0].options["markers"] == {"jav": "lx", "eng": "ge"}
    train, heldout, _ = prepare_corpus(config)
    found = {(row.texts["eng"], row.texts["jav"]) for corpus in (train, heldout) for row in corpus}
    assert found == {*PAIRS, *((f"{a} too", b) for a, b in PAIRS)}
    texts = [f"\\ref {n}\n\\tx {b}\n\\ft {a}\n" for n, (a, b) in enumerate(PAIRS)]
    write(tmp_path, f"t.{ending}", ["\\_sh v3.0  400  Text", *texts])
    assert draft(tmp_path, f"t.{ending}", languages=["jav", "eng"]).corpora[0].options["record"] == "ref"
    with pytest.raises(ConfigError, match=r"its markers are tx, ft.*--languages"):
        draft(tmp_path, f"t.{ending}")


def test_tatoebas_sentences_and_links_belong_together(tmp_path: Path) -> None:
    write(tmp_path, "sentences.csv", [f"{n}\teng\t{a}\n{100 + n}\tjav\t{b}" for n, (a, b) in enumerate(PAIRS)])
    write(tmp_path, "links.csv", [f"{n}\t{100 + n}" for n in range(len(PAIRS))])
    config = draft(tmp_path, "sentences.csv", "links.csv")
    assert (config.languages.known, config.languages.new) == (["eng"], ["jav"])
    assert sum(map(len, prepare_corpus(config)[:2])) == len(PAIRS)
    with pytest.raises(DataError, match="one of links"):
        draft(tmp_path, "sentences.csv")


def test_another_translation_that_is_not_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", ["English,Javanese,Javanese (polite)", *(f"{a},{b},{b} nggih" for a, b in PAIRS)])
    drafted = draft_config([tmp_path / "a.csv"], folder=tmp_path, model="toy")
    assert "not read: Javanese (polite)" in drafted.notes[0]
    assert "not read: Javanese (polite)" in drafted.text


def test_what_is_not_said_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", ["Question,Answer", *(f"{a},{b}" for a, b in PAIRS)])
    write(tmp_path, "side-a.txt", [a for a, _ in PAIRS])
    write(tmp_path, "side-b.txt", [b for _, b in PAIRS])
    for files in (["a.csv"], ["side-a.txt", "side-b.txt"], ["side-a.txt"]):
        with pytest.raises(ConfigError, match="--languages eng,jav"):
            draft(tmp_path, *files)
    with pytest.raises(ConfigError, match="--languages"):
        draft(tmp_path, "a.csv", languages=["eng", "Javanees"])
    with pytest.raises(ConfigError, match="--known"):
        draft(tmp_path, "a.csv", languages=["eng", "jav"], known=["ind"])
    with pytest.raises(DataError, match="does not exist"):
        draft(tmp_path, "b.csv")
    write(tmp_path, "a.eaf", ["<x/>"])
    with pytest.raises(DataError, match="formats show eaf"):
        draft(tmp_path, "a.eaf")


@pytest.mark.parametrize(
    ("model", "adapter", "rate", "replay"),
    [
        ("bigscience/bloomz-560m", False, 5e-5, "hub"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", False, 1e-4, "self"),
        ("Qwen/Qwen3-0.6B", False, 5e-5, "self"),
        ("Qwen/Qwen3-4B", True, 2e-4, "self"),
        ("meta-llama/Llama-3.3-70B-Instruct", True, 1e-4, "self"),
        ("CohereForAI/aya-101", False, 2e-5, "self"),
    ],
)
def test_rate_and_replay_go_by_the_model(
    tmp_path: Path, model: str, adapter: bool, rate: float, replay: str
) -> None:
    write(tmp_path, "a.tsv", ["eng\tind\tjav\tsun", *(f"{a}\tx {a}\t{b}\ty {b}" for a, b in PAIRS)])
    config = draft(tmp_path, "a.tsv", model=model)
    assert (config.languages.known, config.languages.new) == (["eng", "ind"], ["jav", "sun"])
    assert (config.model.adapter is not None) == adapter
    assert config.training.learning_rate == rate
    assert config.training.warmup == ceil(0.03 * config.training.steps)
    assert config.replay is not None
    assert [source.name for source in config.replay.sources] == [replay]
    config = draft(tmp_path, "a.tsv", model=model, known=["English"])
    assert config.languages.new == ["ind", "jav", "sun"]


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "a.tsv", ["eng\tjav", *(f"{a}\t{b}" for a, b in PAIRS)])
    done = call("init", "--from", "data/a.tsv", "--out", "runs/mine.yaml", folder=tmp_path)
    assert done.returncode == 0, done
    data = yaml.safe_load((tmp_path / "runs" / "mine.yaml").read_text())
    assert data["corpora"][0]["path"] == "../data/a.tsv"
    elsewhere = str(tmp_path / "data" / "a.tsv")  # a path from the root stays one: ../../root/… helps nobody
    save_tiny(tmp_path / "base")
    done = call(
        *("init", "--from", elsewhere, "--model", str(tmp_path / "base"), "--out", "runs/far.yaml"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done
    data = yaml.safe_load((tmp_path / "runs" / "far.yaml").read_text())
    assert (data["corpora"][0]["path"], data["model"]["base"]) == (elsewhere, str(tmp_path / "base"))
    done = call("init", "data/a.tsv", "--out", "runs/other.yaml", folder=tmp_path)
    assert (done.returncode, "--from" in done.stderr) == (2, True)


@pytest.mark.slow
def test_from_a_spreadsheet_to_a_report_in_three_commands(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    workbook(
        tmp_path / "pairs.xlsx",
        [["English", "Helong"], *([f"the house {n} is old", f"uma {n} la blatas"] for n in range(300))],
    )
    commands = (
        ["init", "--from", "pairs.xlsx", "--model", "base", "--out", "mine.yaml"],
        ["doctor", "mine.yaml"],
        ["run", "mine.yaml", "--out", "run"],
    )
    for command in commands:
        done = call(*command, folder=tmp_path)
        assert done.returncode == 0, done
    rows = json.loads((tmp_path / "run" / "report.json").read_text())["rows"]
    found = {
        (row["run"], row["task"]): row for row in rows if row["metric"] == "chrf" and row["language"] == "heg"
    }
    for title in ("heldout_translation/from-eng", "heldout_translation/into-eng"):
        assert found["base", title]["n"] == found["run", title]["n"] == 30
        assert 0 <= found["run", title]["low"] <= found["run", title]["value"] <= found["run", title]["high"] <= 1
    assert "chrF" in (tmp_path / "run" / "report.md").read_text()


def test_one_column_or_a_text_file_alone_is_monolingual(tmp_path: Path) -> None:
    write(tmp_path, "news.txt", [b for _, b in PAIRS])
    write(tmp_path, "news.jav.txt", [f"Teks liya {n} sing dawa" for n in range(40)])
    write(tmp_path, "one.csv", ["text", *(b for _, b in PAIRS)])
    write(tmp_path, "pairs.tsv", ["eng\tjav", *(f"{a}\t{b}" for a, b in PAIRS)])
    (tmp_path / "articles.jsonl").write_text(
        "".join(json.dumps({"number": n, "text": b}) + "\n" for n, (_, b) in enumerate(PAIRS)), encoding="utf-8"
    )
    for file in ("news.txt", "one.csv", "articles.jsonl"):
        config = draft(tmp_path, file, languages=["jav"], known=["ind"], model="toy")
        assert (config.languages.known, config.languages.new) == (["ind"], ["jav"])
        assert config.corpora[0].languages == ["jav"]
        assert set(config.instructions.objectives) == {"lm", "mlm"}
        assert config.evaluation.tasks == ["heldout_text"]
        assert len(prepare_corpus(config)[0]) == 36
    both = draft(tmp_path, "pairs.tsv", "news.jav.txt", model="toy")
    assert [entry.languages for entry in both.corpora] == [None, ["jav"]]
    assert set(both.instructions.objectives) == {"tlm", "mt", "lm"}
    with pytest.raises(ConfigError, match="--languages"):
        draft(tmp_path, "news.txt")
    with pytest.raises(ConfigError, match="no other"):
        draft(tmp_path, "news.txt", languages=["eng"])


@pytest.mark.parametrize("ending", ["csv", "xlsx", "jsonl"])
def test_the_only_column_of_text_is_in_the_language_that_it_is_named_by(tmp_path: Path, ending: str) -> None:
    path, names = tmp_path / f"mine.{ending}", ["no", "Javanese"]
    rows = [[str(number), text] for number, (_, text) in enumerate(PAIRS)]
    if ending == "jsonl":
        write(tmp_path, path.name, [json.dumps(dict(zip(names, row, strict=True))) for row in rows])
    else:
        write_table(path, [names, *rows])
    config = draft(tmp_path, path.name)
    assert (config.corpora[0].languages, config.languages.new) == (["jav"], ["jav"])
    assert config.corpora[0].options["columns"] == {"jav": "Javanese"}


def test_a_key_of_json_lines_is_left_out_by_its_place(tmp_path: Path) -> None:
    write(tmp_path, "mine.jsonl", [json.dumps({"text": b, "remark": f"{a}."}) for a, b in PAIRS])
    config = draft(tmp_path, "mine.jsonl", languages=["jav", "-"])
    assert config.corpora[0].options["columns"] == {"jav": "text"}
