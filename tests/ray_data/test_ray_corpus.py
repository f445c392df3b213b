"""What a cluster makes of corpora is what one process makes; here without Ray, its tasks called one by one."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.data import ContaminationCheck, ItemIndex, ItemText
from instructalign.errors import DataError, RunFolderError
from instructalign.instructions import generate_instructions
from instructalign.mixture.training_data import build_instructions, prepare_corpus
from instructalign.ray_data import prepare_corpus_on_ray, ray_cleaning, ray_corpus

WORDS = ["watu", "banyu", "geni", "angin", "lemah", "godhong", "wit", "manuk", "kali", "gunung", "dalan", "omah"]


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of seven rows, three ranges of keys, and every task called here, the last one first."""

    def map_unordered(items: Sequence[dict[str, Any]], work: Callable[..., Any], **shared: Any) -> Iterator[Any]:
        sent = pickle.dumps(shared)
        return (pickle.loads(pickle.dumps(work(**item, **pickle.loads(sent)))) for item in reversed(items))

    def clean_blocks(
        entries: Any, names: Any, languages: Any, config: Any, folder: Path
    ) -> Iterator[ray_cleaning.CleanedBlock]:
        blocks = [
            block
            for place in range(len(entries))
            for block in ray_cleaning._read_blocks(
                {"entry": place}, entries=entries, names=names, languages=languages
            )
        ]
        for block in reversed(blocks):
            made = ray_cleaning._clean_block(block, languages=languages, config=config, folder=folder)
            yield pickle.loads(made["cleaned"])

    monkeypatch.setattr("instructalign.ray_data.ray_corpus.map_unordered", map_unordered)
    monkeypatch.setattr("instructalign.ray_data.ray_cleaning.map_unordered", map_unordered)
    monkeypatch.setattr("instructalign.ray_data.ray_cleaning.cluster_cpus", lambda: 3)
    monkeypatch.setattr("instructalign.ray_data.ray_corpus.clean_blocks", clean_blocks)
    monkeypatch.setattr("instructalign.ray_data.ray_cleaning._BLOCK_ROWS", 7)


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=9))


def write_corpora(folder: Path, seed: int) -> None:
    """Two corpora of three languages with gaps, repetitions, near repetitions and damage."""
    draw = random.Random(seed)
    pool: list[dict[str, str]] = []
    for name in ("one", "two"):
        lines = []
        for number in range(60):
            row = {code: f"{sentence(draw)} {number}" for code in ("eng", "jav", "sun") if draw.random() < 0.8}
            chance = draw.random()
            if pool and chance < 0.15:
                row = dict(draw.choice(pool))
            elif pool and chance < 0.3:
                row = {code: f"{text} {draw.choice(WORDS)}" for code, text in draw.choice(pool).items()}
            elif chance < 0.4:
                row = {code: f"{text}\x02" for code, text in row.items()}
            elif chance < 0.6 and "jav" in row:
                row["jav"] = "(a translation is not there yet, see the note)"
            pool.append(row)
            lines.append(json.dumps({"id": f"s{draw.randrange(100)}", **row}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def configure(folder: Path, **changes: Any) -> Config:
    columns = {code: code for code in ("eng", "jav", "sun")}
    settings: dict[str, Any] = {
        "model": {"base": "none"},
        "languages": {"known": ["eng"], "new": ["jav", "sun"]},
        "corpora": [
            {"format": "jsonl", "path": f"{name}.jsonl", "id": "id", "label": "both", "columns": columns}
            for name in ("one", "two")
        ],
        "filter": {"rejects": "rejects.jsonl"},
        "instructions": {"heldout": 5},
        "training": {"steps": 1},
        **changes,
    }
    return build_config(settings, folder=folder)


def assert_same(config: Config, folder: Path, check: ContaminationCheck | None = None) -> None:
    train, heldout, found = prepare_corpus(config, check)
    rejects = config.filter.rejects.read_bytes() if config.filter.rejects else b""
    train2, heldout2, found2 = prepare_corpus_on_ray(config, folder, check)
    for one, other in ((train, train2), (heldout, heldout2)):
        assert list(one) == list(other)
        assert [list(row.texts) for row in one] == [list(row.texts) for row in other]
        assert (one.counts, one.languages) == (other.counts, other.languages)
    assert train.removed == train2.removed
    assert found == found2
    assert rejects == (config.filter.rejects.read_bytes() if config.filter.rejects else b"")
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.json", "heldout", "train"]
    made = list(generate_instructions(build_instructions(config, train), 300))
    assert made == list(generate_instructions(build_instructions(config, train2), 300))


@pytest.mark.parametrize("preset", ["none", "basic", "standard", "strict"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_counts_rejects_and_instructions(tmp_path: Path, preset: str, seed: int) -> None:
    write_corpora(tmp_path, seed)
    config = configure(tmp_path, filter={"preset": preset, "rejects": "rejects.jsonl", "without": ["script"]})
    assert_same(config, tmp_path / "store")


def test_the_cases_are_there(tmp_path: Path) -> None:
    """What the comparison above would otherwise pass by: duplicates over blocks and corpora, and every filter."""
    write_corpora(tmp_path, 1)
    config = configure(tmp_path, filter={"preset": "strict", "without": ["script"]})
    train, heldout, _ = prepare_corpus_on_ray(config, tmp_path / "store")
    assert train.counts.dropped["duplicates"] > 10
    assert {"control", "duplicates", "placeholders"} <= train.removed.keys()
    assert {code for row in train for code in row.texts} == {"eng", "jav", "sun"}
    assert len({frozenset(row.texts) for row in train}) == 4
    assert len({row.id for row in heldout}) == 5


@pytest.mark.parametrize("heldout", [0, 5])
def test_a_limited_number_of_sentences(tmp_path: Path, heldout: int) -> None:
    write_corpora(tmp_path, 3)
    config = configure(tmp_path, instructions={"heldout": heldout, "sentences": 20})
    assert_same(config, tmp_path / "store")
    assert len({row.id for row in prepare_corpus_on_ray(config, tmp_path / "store")[0]}) == 20


@pytest.mark.parametrize("sentences", [None, 20])
def test_monolingual_text(tmp_path: Path, sentences: int | None) -> None:
    write_corpora(tmp_path, 4)
    draw = random.Random(4)
    documents = ["\n".join(f"{sentence(draw)} {n}" for n in range(3)) for _ in range(40)]
    (tmp_path / "news.txt").write_text("\n\n".join(documents), encoding="utf-8")
    changes = {
        "corpora": [
            *configure(tmp_path).corpora,
            {"format": "text", "path": "news.txt", "languages": ["jav"]},
        ],
        "instructions": {"heldout": 5, "sentences": sentences, "objectives": {"mt": 1, "mlm": 1, "lm": 1}},
    }
    config = configure(tmp_path, **changes)
    assert_same(config, tmp_path / "store")
    assert any(len(row.texts) == 1 for row in prepare_corpus(config)[1])


@pytest.mark.parametrize("preset", ["basic", "standard"])
def test_synthetic_sides(tmp_path: Path, preset: str) -> None:
    write_corpora(tmp_path, 3)
    columns = {code: code for code in ("eng", "jav", "sun")}
    corpora = [{"format": "jsonl", "path": f"{name}.jsonl", "columns": columns} for name in ("one", "two")]
    corpora[1]["synthetic"] = "jav"
    split = {"heldout": 5, "sentences": 15}
    config = configure(
        tmp_path, corpora=corpora, instructions=split, filter={"preset": preset, "without": ["script"]}
    )
    assert_same(config, tmp_path / "store")
    assert "jav-x-synth" in prepare_corpus_on_ray(config, tmp_path / "store")[0].languages


def test_nothing_held_out_and_nothing_rejected(tmp_path: Path) -> None:
    write_corpora(tmp_path, 4)
    config = configure(tmp_path, filter={"preset": "basic"}, instructions={"heldout": 0})
    assert_same(config, tmp_path / "store")


@pytest.mark.parametrize("action", ["report", "drop"])
def test_test_items(tmp_path: Path, action: Any) -> None:
    write_corpora(tmp_path, 5)
    config = configure(tmp_path, contamination=action)
    rows = list(prepare_corpus(config, ContaminationCheck())[0])[::9]
    texts = [ItemText("mood", rows[1].id.rpartition("/")[2], "eng", "a text of its own")]
    texts += [ItemText("mood", str(i), "jav", row.texts.get("jav", "siji")) for i, row in enumerate(rows)]
    check = ContaminationCheck(action, ItemIndex(texts), "")
    assert_same(config, tmp_path / "store", check)
    found = prepare_corpus_on_ray(config, tmp_path / "store", check)[2]
    assert {overlap.kind for overlap in found.overlaps} >= {"exact", "id"}
    assert bool(found.dropped) == (action == "drop")


def test_test_items_refused(tmp_path: Path) -> None:
    write_corpora(tmp_path, 5)
    config = configure(tmp_path, contamination="refuse")
    text = next(iter(prepare_corpus(config)[0][3].texts.values()))
    check = ContaminationCheck("refuse", ItemIndex([ItemText("mood", "1", "eng", text)]), "")
    with pytest.raises(DataError) as ours:
        prepare_corpus(config, check)
    with pytest.raises(DataError) as theirs:
        prepare_corpus_on_ray(config, tmp_path / "store", check)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"instructions": {"heldout": 500}},
        {"instructions": {"sentences": 500}},
        {"filter": {"preset": "none", "length": {"min": 5000}}},
        {"languages": {"known": ["eng"], "new": ["jav", "min"]}},
    ],
)
def test_the_same_errors(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_corpora(tmp_path, 6)
    config = configure(tmp_path, **changes)
    with pytest.raises(DataError) as ours:
        prepare_corpus(config)
    with pytest.raises(DataError) as theirs:
        prepare_corpus_on_ray(config, tmp_path / "store")
    assert str(ours.value) == str(theirs.value)


def test_a_folder_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpora(tmp_path, 7)
    config = configure(tmp_path)
    first = prepare_corpus_on_ray(config, tmp_path / "store")
    monkeypatch.setattr("instructalign.ray_data.ray_corpus._make", None)
    again = prepare_corpus_on_ray(configure(tmp_path, seed=42, model={"base": "another"}), tmp_path / "store")
    assert list(again[0]) == list(first[0])
    assert (again[0].counts, again[0].removed, again[2]) == (first[0].counts, first[0].removed, first[2])
    for change in (
        {"seed": 1},
        {"instructions": {"heldout": 4}},
        {"instructions": {"heldout": 5, "sentences": 9}},
        {"filter": {"preset": "none"}},
    ):
        with pytest.raises(RunFolderError, match=r"holds the rows of other corpora.*Give another folder"):
            prepare_corpus_on_ray(configure(tmp_path, **change), tmp_path / "store")
    with (tmp_path / "one.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "eng": "a new row", "jav": "larik anyar"}\n')
    with pytest.raises(RunFolderError, match="or the files have changed since"):
        prepare_corpus_on_ray(config, tmp_path / "store")


def test_what_was_left_unfinished_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpora(tmp_path, 8)
    config = configure(tmp_path)

    def fail(*_: object) -> None:
        raise DataError("the power failed")

    with monkeypatch.context() as patch:
        patch.setattr(ray_corpus, "write_json", fail)
        with pytest.raises(DataError, match="the power failed"):
            prepare_corpus_on_ray(config, tmp_path / "store")
    assert (tmp_path / "store" / "train").is_dir()
    assert list(prepare_corpus_on_ray(config, tmp_path / "store")[0]) == list(prepare_corpus(config)[0])


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    write_corpora(tmp_path, 9)
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"not empty and holds no stored rows \(found: train\)"):
        prepare_corpus_on_ray(configure(tmp_path), tmp_path / "mine")
    assert (tmp_path / "mine" / "train" / "thesis.txt").exists()
