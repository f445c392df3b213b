"""Monolingual text: passages that lose nothing, the objective lm in its forms, and what may take which text."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.data import Corpus, read_corpora
from instructalign.data.formats.spreadsheets import write_table
from instructalign.errors import ConfigError, DataError, TrainingError
from instructalign.instructions.export import as_record
from instructalign.instructions.passages import Passages
from instructalign.instructions.stream import InstructionStream
from instructalign.mixture.training_data import build_instructions, heldout_instructions, prepare_corpus
from instructalign.training.batching import ExampleEncoder
from instructalign.training.preflight import check_plain_text
from instructalign.training.tokenization import Codec
from instructalign.types import Counts, Instruction, ParallelRow
from tiny import tiny_tokenizer

LINES = st.text("ab c\u0301ꦗ", min_size=1, max_size=40).map(str.strip).filter(bool)


@given(st.lists(st.lists(LINES, min_size=1, max_size=5), min_size=1, max_size=6), st.integers(1, 30))
def test_passages_have_every_line_once_and_stay_in_their_document(documents: list[list[str]], length: int) -> None:
    rows = [ParallelRow(f"d{number}", {"jav": line}) for number, lines in enumerate(documents) for line in lines]
    passages = Passages(rows, length)
    made = [(*passages[number][:2], passages.goes_on(number)) for number in range(passages.count)]
    assert all(code == "jav" and set(row.texts) == {"jav"} for row, code, _ in made)
    for number, lines in enumerate(documents):
        texts = [(row.texts["jav"], more) for row, _, more in made if row.id == f"d{number}"]
        assert "".join("".join(text for text, _ in texts).split()) == "".join("".join(lines).split())
        assert [more for _, more in texts] == [True] * (len(texts) - 1) + [False]
        assert all(len(text) <= length for text, _ in texts)


def test_passages_by_hand() -> None:
    lines = [("a", "one two"), ("a", "three"), ("a", "4"), ("b", "x")]
    rows = [ParallelRow(id, {"jav": text}) for id, text in lines]

    def texts(length: int) -> list[str]:
        passages = Passages(rows, length)
        return [passages[number][0].texts["jav"] for number in range(passages.count)]

    assert texts(13) == ["one two\nthree", "4", "x"]
    assert texts(15) == ["one two\nthree\n4", "x"]
    assert texts(4) == ["one", "two", "thre", "e\n4", "x"]


def write(folder: Path) -> None:
    folder.joinpath("pairs.tsv").write_text(
        "eng\tjav\n" + "".join(f"sentence number {n}\tukara nomer {n}\n" for n in range(40)), encoding="utf-8"
    )
    documents = ["\n".join(f"teks {d} larik {n} dawa banget" for n in range(4)) for d in range(60)]
    folder.joinpath("news.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")


PAIRS = {"format": "tsv", "path": "pairs.tsv"}
NEWS = {"format": "text", "path": "news.txt", "languages": ["jav"]}


def configure(folder: Path, corpora: list[Any], objectives: Any, **instructions: Any) -> Config:
    write(folder)
    return build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{**entry, "path": str(folder / entry["path"])} for entry in corpora],
            "instructions": {"objectives": objectives, "heldout": 5, **instructions},
        }
    )


def test_lines_of_a_document_share_an_id_and_are_split_together(tmp_path: Path) -> None:
    write(tmp_path)
    news = {**NEWS, "path": str(tmp_path / "news.txt")}
    corpus = read_corpora([news], ["eng", "jav"], optional=["eng"])
    assert [row.id for row in corpus][3:6] == ["news/1", "news/6", "news/6"]
    assert corpus[4].texts == {"jav": "teks 1 larik 0 dawa banget"}
    train, held = corpus.split(5, seed=1)
    assert len({row.id for row in held}) == 5
    assert len(held) == 20
    assert {row.id for row in held}.isdisjoint(row.id for row in train)


def test_monolingual_text_moves_no_held_out_pair_and_shares_no_sentence_across_the_split(tmp_path: Path) -> None:
    write(tmp_path)
    pairs = {**PAIRS, "path": str(tmp_path / "pairs.tsv")}
    (tmp_path / "same.txt").write_text("".join(f"ukara nomer {n}\nliya {n}\n\n" for n in range(40)))
    same = {**NEWS, "path": str(tmp_path / "same.txt")}
    alone = read_corpora([pairs], ["eng", "jav"]).split(5, seed=1)[1]
    train, held = read_corpora([pairs, same], ["eng", "jav"]).split(5, seed=1)
    assert [row for row in held if len(row.texts) == 2] == list(alone)
    assert {row.texts["jav"] for row in held}.isdisjoint(row.texts["jav"] for row in train)
    assert {row.texts["jav"] for row in alone} <= {row.texts["jav"] for row in held if len(row.texts) == 1}


@pytest.mark.parametrize("ending", ["xlsx", "csv"])
@pytest.mark.parametrize("name", ["jav", "Javanese"])
def test_a_table_that_names_the_only_language(tmp_path: Path, ending: str, name: str) -> None:
    for titles in ([], [["Our list"]]):
        path = tmp_path / f"{len(titles)}.{ending}"
        write_table(path, [*titles, ["no", name], ["1", "siji"], ["2", "loro"]])
        entry = {"format": ending, "path": str(path), "languages": ["jav"]}
        rows = read_corpora([entry], ["eng", "jav"], optional=["eng"])
        assert [row.texts for row in rows] == [{"jav": "siji"}, {"jav": "loro"}]
    write_table(path, [["Text"], ["siji"]])
    with pytest.raises(DataError, match="jav by its code or name" if ending == "xlsx" else "is a language code"):
        read_corpora([entry], ["eng", "jav"], optional=["eng"])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "usfm"])
def test_one_column_of_any_format_is_monolingual_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"articles.{ending}"
    columns: dict[str, Any] = {"columns": {"jav": "text"}, "path": str(path)}
    if ending == "csv":
        path.write_text('title,text\nA,"siji\nloro"\nB,telu\n', encoding="utf-8")
    elif ending == "jsonl":
        path.write_text('{"text": "siji\\n\\nloro"}\n{"text": "telu"}\n{"text": null}\n', encoding="utf-8")
    elif ending == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"text": ["siji\nloro", "telu"]}), path)
    else:
        path.write_text("\\id GEN\n\\c 1\n\\p\n\\v 1 siji\n\\v 2 loro\n\\v 3 telu\n", encoding="utf-8")
        columns = {"files": {"jav": str(path)}}
    corpus = read_corpora([{"format": ending, "languages": ["jav"], **columns}], ["eng", "jav"], optional=["eng"])
    assert [row.texts for row in corpus] == [{"jav": "siji"}, {"jav": "loro"}, {"jav": "telu"}]
    assert (corpus[0].id == corpus[1].id) is (ending != "usfm")
    assert corpus.counts.kept == 3
    assert corpus.counts.dropped == ({"empty": 1} if ending == "jsonl" else {})


def test_only_monolingual_objectives_take_monolingual_text(tmp_path: Path) -> None:
    config = configure(tmp_path, [PAIRS, NEWS], {"mt": 1, "xss": 1, "mlm": 1, "lm": 1})
    train, held, _ = prepare_corpus(config)
    stream = build_instructions(config, train)
    made = [stream[k] for k in range(2000)]
    of = {name: [each for each in made if each.objective == name] for name in ("mt", "xss", "mlm", "lm")}
    assert all(each.row.startswith("pairs/") for each in of["mt"] + of["xss"])
    assert not any("teks" in each.prompt for each in of["xss"])  # as a wrong translation, either
    assert {each.row.split("/")[0] for each in of["mlm"]} == {"pairs", "news"}
    assert all(each.row.startswith("news/") and each.target == each.source == "jav" for each in of["lm"])
    lines = {row.texts["jav"] for row in train if len(row.texts) == 1}
    assert {each.answer for each in of["mlm"] if each.row.startswith("news/")} <= lines
    assert stream.counts.kept == len(train)
    held_out = heldout_instructions(config, held)
    assert held_out is not None
    rows = {row.id for row in train}
    assert not {held_out[k].row for k in range(200)} & rows


def test_pairs_alone_give_the_instructions_that_they_gave(tmp_path: Path) -> None:
    """Text that no objective of a pair takes changes none of its instructions."""
    plain = configure(tmp_path, [PAIRS], {"mt": 1, "xss": 1})
    more = configure(tmp_path, [PAIRS, NEWS], {"mt": 1, "xss": 1, "lm": 0.000001})
    here, there = (build_instructions(each, prepare_corpus(each)[0]) for each in (plain, more))
    assert [here[k] for k in range(300)] == [there[k] for k in range(300)]


@pytest.mark.parametrize("form", ["chat", "plain", "prefix"])
def test_forms_of_lm(tmp_path: Path, form: str) -> None:
    config = configure(tmp_path, [NEWS], {"lm": {"form": form, "characters": 60}})
    train = prepare_corpus(config)[0]
    stream = build_instructions(config, train)
    made = [stream[k] for k in range(stream.epoch)]
    assert stream.epoch == 110  # two lines each: 55 documents
    assert sum(each.goes_on for each in made) == 55
    for each in made:
        document = "\n".join(row.texts["jav"] for row in train if row.id == each.row)
        if form == "plain":
            assert each.prompt == "" == each.template
            assert each.answer in document
        else:
            assert each.answer in document
            assert bool(each.template) is (form == "chat")
        if form == "prefix":
            assert " ".join(f"{each.prompt} {each.answer}".split()) in document.replace("\n", " ")
    if form == "plain":
        assert sorted("\n".join(each.answer for each in made).split("\n")) == sorted(
            row.texts["jav"] for row in train
        )


def test_a_script_without_spaces_is_cut_between_its_units() -> None:
    text = "ꦱꦧꦼꦤ꧀ꦮꦺꦴꦁꦏꦭꦲꦶꦂꦫꦏꦺ"
    rows = Corpus([ParallelRow("a", {"jav": text})], Counts())
    config = configure_rows({"lm": {"form": "prefix"}})
    stream = InstructionStream(rows, config.instructions, config.languages, ["eng"], 1)
    cuts = {(stream[k].prompt, stream[k].answer) for k in range(100)}
    assert all(prompt + answer == text and prompt and answer for prompt, answer in cuts)
    assert len(cuts) > 3


def configure_rows(objectives: Any) -> Config:
    return build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{**NEWS}],
            "instructions": {"objectives": objectives},
        }
    )


@pytest.mark.parametrize(
    ("corpora", "objectives", "key", "advice"),
    [
        ([NEWS], {"mt": 1}, "instructions.objectives", "lm: 1"),
        ([NEWS], {"mt": 1, "lm": 1}, "instructions.objectives", "add a parallel corpus"),
        ([PAIRS, NEWS], {"mt": 1, "tlm": 1}, "corpora.1", "lm: 1, mt: 1, tlm: 1"),
        ([PAIRS], {"lm": 1}, "instructions.objectives", "languages: [jav]"),
        ([{**NEWS, "languages": ["sun"]}], {"lm": 1}, "corpora.0.languages", "eng, jav"),
        ([{"format": "text", "path": "news.txt"}], {"lm": 1}, "corpora.0", "languages: [jav]"),
    ],
)
def test_validate_says_what_to_write(
    tmp_path: Path, corpora: list[Any], objectives: Any, key: str, advice: str
) -> None:
    with pytest.raises(ConfigError) as error:
        configure(tmp_path, corpora, objectives)
    [problem] = error.value.problems
    assert key in problem
    assert advice in problem


def test_a_corpus_of_one_language_says_how_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("jav\nsiji\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"languages: \[jav\]"):
        read_corpora([{"format": "csv", "path": str(path)}], ["eng", "jav"])
    with pytest.raises(DataError, match="no text in eng"):
        read_corpora([{"format": "csv", "path": str(path), "languages": ["eng"]}], ["eng", "jav"])


def test_plain_text_is_no_conversation() -> None:
    plain = Instruction("", "siji loro", "lm", "jav", "jav", "a/1")
    assert as_record(plain)["answer"] == "siji loro"
    with pytest.raises(DataError, match=r"lm\.form"):
        as_record(plain, "messages")


def test_json_lines_are_no_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('{"text": "siji"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt.*format: jsonl.*jav: text"):
        read_corpora([{**NEWS, "path": str(path)}], ["eng", "jav"], optional=["eng"])


def test_plain_text_is_not_for_encoders() -> None:
    for form, refused in (("plain", True), ("prefix", False), ("chat", False)):
        config = configure_rows({"lm": {"form": form}})
        with pytest.raises(TrainingError, match=r"lm\.form") if refused else nullcontext():
            check_plain_text(config, Codec(tiny_tokenizer(), True))
        check_plain_text(config, Codec(tiny_tokenizer(), False))


def test_a_prefix_goes_to_the_encoder_and_the_rest_is_the_answer() -> None:
    codec = Codec(tiny_tokenizer(), True)
    encoder = ExampleEncoder(codec, 64)
    whole, cut = (encoder(Instruction("enak lan", "resik", "lm", goes_on=more)) for more in (False, True))
    assert codec.tokenizer.decode(whole.prompt) == "enak lan"
    assert codec.tokenizer.decode(whole.answer) == "resik</s>"
    assert whole.answer[:-1] == cut.answer
