"""The presets in configs/paper against the first code's rules, computed anew on made-up data of the real sizes.

The rules (arXiv 2305.13627 and its scripts, in our own words): FLORES-200 dev and devtest, 997 and 1 012
sentences; one data set for each direction of English with eight languages; of all pairs together 1 000 are held
out; one new and one past example in turn, the past ones from the beginning again when they are used up.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import pytest

from instructalign.config import Config
from instructalign.config_file import load_config
from instructalign.evaluation.task_selection import select_tasks
from instructalign.mixture.training_data import TrainingData, prepare_data
from instructalign.sweeps import grid, plan_sweep

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "configs" / "paper").glob("*.yaml"))
MAIN = ["bloomz-560m", "data-size", "model-size", "mt0-small", "objectives"]  # those that repeat the paper's data
SPLITS = {"dev": 997, "devtest": 1012}
PARTNERS = ["ind", "sun", "jav", "ban", "min", "bug", "ace", "bjn"]
NUSAX = [
    *("acehnese", "balinese", "banjarese", "buginese", "english", "indonesian", "javanese", "madurese"),
    *("minangkabau", "ngaju", "sundanese", "toba_batak"),
]


def first_codes_pairs() -> tuple[int, int]:
    """How many pairs the scripts train on and hold out."""
    directions = [way for code in PARTNERS for way in (("eng", code), (code, "eng"))]
    pairs = [(way, sentence) for way in directions for sentence in range(sum(SPLITS.values()))]
    return len(pairs) - 1000, 1000


def first_codes_order(new: int, past: int) -> list[tuple[str, int]]:
    """The order in which the scripts interleave new and past examples, before the Trainer shuffles them."""
    walk = cycle(range(past))
    return [each for number in range(new) for each in (("new", number), ("past", next(walk)))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up text of FLORES-200's, NusaX's and a part of xP3's size."""
    folder = tmp_path_factory.mktemp("data")
    codes = sorted({*PARTNERS, "eng", "spa", "fra", "quy", "ayr", "grn", "kab", "cat", "glg", "oci", "ast"})
    for split, count in SPLITS.items():
        (folder / "flores200" / split).mkdir(parents=True)
        for code in codes:
            lines = "".join(f"{code} sentence {number} of {split} is here.\n" for number in range(count))
            (folder / "flores200" / split / f"{code}_Latn.{split}").write_text(lines, encoding="utf-8")
    for name in NUSAX:
        (folder / "nusax" / "sentiment" / name).mkdir(parents=True)
        rows = "".join(
            f"{number},{name} text {number},{'positive' if number % 2 else 'negative'}\n" for number in range(400)
        )
        (folder / "nusax" / "sentiment" / name / "test.csv").write_text(f"id,text,label\n{rows}", encoding="utf-8")
    with (folder / "xp3.jsonl").open("w", encoding="utf-8") as file:
        for number in range(12_000):
            file.write(json.dumps({"inputs": f"Question {number}?", "targets": f"answer {number}"}) + "\n")
    return folder


def load(name: str, data: Path, *more: str) -> Config:
    """A preset on the made-up data."""
    return load_config(
        ROOT / "configs" / "paper" / f"{name}.yaml",
        [
            f"corpora.0.path={data / 'flores200'}",
            f"replay.source={{format: jsonl, path: {data / 'xp3.jsonl'}}}",
            f"evaluation.data={data}",
            "evaluation.tasks=[nusax_senti]",
            "contamination=report",
            *more,
        ],
    )


def prepare(name: str, data: Path, *more: str) -> TrainingData:
    return prepare_data(load(name, data, *more))


@pytest.mark.parametrize("name", MAIN)
def test_held_out_counts_and_epochs_are_the_scripts_to_within_a_sentence(name: str, data: Path) -> None:
    train, heldout = first_codes_pairs()
    assert (train, heldout) == (31_144, 1_000)
    made = prepare(name, data)
    directions = 2 * len(PARTNERS)
    assert len(made.corpus) + len(made.heldout) == sum(SPLITS.values())
    assert len(made.heldout) == heldout // directions == 62
    # A sentence has 16 pairs: the scripts hold out 62 and a half, and their epoch is 8 pairs shorter.
    assert made.instructions.epoch == 31_152
    assert 0 <= made.instructions.epoch - train < directions


def differences(path: Path) -> str:
    """The known differences from the first code that a preset's header lists."""
    return path.read_text(encoding="utf-8").split("# Known differences")[1].split("\n\n")[0]


def test_headers_and_pages_state_the_same_numbers() -> None:
    stated = "31 152 examples (the scripts: 31 144)"
    for file in ("configs/paper/bloomz-560m.yaml", "docs/paper.md"):
        text = re.sub(r"\s*\n(# )?", " ", (ROOT / file).read_text(encoding="utf-8"))
        assert stated in text, file
    for path in PRESETS:
        header = path.read_text(encoding="utf-8")
        assert "see bloomz-560m.yaml" in header or differences(path) == differences(PRESETS[0])
        assert f"configs/paper/{path.name}" in (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert "docs/paper.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_counts_the_runs_of_each_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "check_config", lambda _: None)  # tests/test_config.py checks each cell
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for path in PRESETS:
        runs = len(plan_sweep(path).cells)
        steps = load_config(path).training.steps
        row = next(
            line for line in page.splitlines() if line.startswith("|") and f"configs/paper/{path.name}" in line
        )
        assert f"| {runs} × {steps // 1000} 000 |" in row
    assert (
        len(plan_sweep(ROOT / "configs" / "paper" / "objectives.yaml", ["replay.size=0,1000,10000"]).cells) == 42
    )


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_new_and_past_examples_alternate_as_in_the_scripts(size: int, data: Path) -> None:
    made = prepare("bloomz-560m", data, f"replay.size={size}")
    count = 8_000
    expected = first_codes_order(count // 2, size)
    ours = [made.mixture[number] for number in range(count)]
    assert ["past" if each.objective == "replay" else "new" for each in ours] == [kind for kind, _ in expected]
    # How often each past example came: the same numbers, though in an order of its own in each round.
    times = Counter(Counter(number for kind, number in expected if kind == "past").values())
    assert Counter(Counter(each.prompt for each in ours if each.objective == "replay").values()) == times
    # In each round every one once.
    walk = [each.prompt for each in ours if each.objective == "replay"]
    rounds = [walk[start : start + size] for start in range(0, len(walk), size)]
    assert all(len(set(some)) == len(some) for some in rounds)


def test_without_replay_all_examples_are_new(data: Path) -> None:
    made = prepare("bloomz-560m", data, "replay.size=0")
    assert not any(each.objective == "replay" for each in islice(map(made.mixture.__getitem__, range(200)), 200))


def test_an_epoch_of_the_preset_has_each_pair_once_in_every_direction(data: Path) -> None:
    made = prepare("bloomz-560m", data)
    seen = Counter(
        (each.source, each.target, each.row)
        for each in (made.instructions[number] for number in range(made.instructions.epoch))
    )
    assert set(seen.values()) == {1}
    ways = Counter((source, target) for source, target, _ in seen)
    expected = {way: 1947 for code in PARTNERS for way in (("eng", code), (code, "eng"))}
    assert ways == expected
    kinds = Counter(made.instructions[number].objective for number in range(6_000))
    assert {*kinds} == {"tlm", "mt", "xss"}
    assert all(abs(kinds[kind] - 2_000) < 150 for kind in kinds)  # four standard deviations


def test_the_sizes_of_the_data_size_sweep_differ(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "check_config", lambda _: None)  # tests/test_config.py checks each cell
    plan = plan_sweep(ROOT / "configs" / "paper" / "data-size.yaml")
    sizes = list(dict.fromkeys(cell.config.instructions.sentences for cell in plan.cells))
    assert sizes == [100, 500, 1000, None]
    epochs = [
        prepare("data-size", data, f"instructions.sentences={'null' if size is None else size}").instructions.epoch
        for size in sizes
    ]
    assert epochs == [1_600, 8_000, 16_000, 31_152]


@pytest.mark.parametrize(("name", "pivots"), [("distant", 2), ("romance", 3)])
def test_epochs_of_the_other_families(name: str, pivots: int, data: Path) -> None:
    made = prepare(name, data, "evaluation.languages=null", "languages.known=[eng, spa, fra]")
    assert len(made.heldout) == 50
    assert made.instructions.epoch == (SPLITS["devtest"] - 50) * 2 * 4 * pivots


@pytest.mark.parametrize("name", MAIN)
def test_each_language_of_nusax_is_asked_under_six_prompts(name: str, data: Path) -> None:
    config = load(name, data)
    [plan] = select_tasks(config).classification
    assert len(plan.questions()) == len(NUSAX) * 400 * 6
    asked = set(plan.items)
    assert asked & {*config.languages.known} == {"eng", "ind"}
    assert asked & {*config.languages.new} == {*PARTNERS} - {"ind"}
    assert asked & {*config.languages.related} == {"mad", "nij", "bbc"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_scores_as_the_paper_and_names_sources_that_load(path: Path) -> None:
    config = load_config(path)
    assert config.evaluation.scoring == "paper"
    assert config.replay is not None
    assert config.replay.preset == "paper"
    [source] = config.replay.sources
    assert (
        source.options["data_files"] == "hf://datasets/bigscience/xP3/en/*.jsonl"
    )  # tests/evaluation/test_hub_tasks.py
    examples = config.training.steps * config.training.batch_size
    assert examples == 1_600_000  # 800 000 of them new: 25.7 epochs of the main presets
