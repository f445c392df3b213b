"""SIB-200 on its real data in ten languages: the scores of the harness, and the items that FLORES has."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import pytest

from instructalign.config_file import build_config
from instructalign.data.contamination import ContaminationCheck, ItemIndex, contaminated_sets
from instructalign.evaluation import evaluate, export_lm_eval, load_task
from instructalign.evaluation.predictions import read_predictions
from instructalign.evaluation.task_selection import select_tasks
from instructalign.mixture.training_data import prepare_corpus

LANGUAGES = ["cat", "eng", "glg", "ind", "jav", "min", "oci", "spa", "sun", "zsm"]
ITEMS = 6


def config_for(data: Path, **evaluation: Any) -> Any:
    return build_config(
        {
            "model": {"base": "base"},
            "languages": {"known": ["eng", "ind"], "new": ["jav", "min", "sun"], "related": LANGUAGES[:1]},
            "corpora": [{"format": "flores", "path": str(data / "flores200"), "splits": ["dev"]}],
            "instructions": {"heldout": 0},
            "training": {"steps": 1},
            "evaluation": {"tasks": ["sib200"], "data": str(data), "bootstrap": 20, **evaluation},
        }
    )


@pytest.fixture(scope="module")
def sib200(shared_data: Path) -> Path:
    if not (shared_data / "sib200").is_dir():
        pytest.skip(f"no SIB-200 in {shared_data}")
    return shared_data


def test_all_items_of_ten_languages_are_read(sib200: Path) -> None:
    plan = select_tasks(config_for(sib200, languages=LANGUAGES)).classification[0]
    assert {code: len(items) for code, items in plan.items.items()} == dict.fromkeys(LANGUAGES, 204)
    ids = {tuple(item.id for item in items) for items in plan.items.values()}
    assert len(ids) == 1  # parallel: the same items in every language
    assert len({tuple(item.label for item in items) for items in plan.items.values()}) == 1


@pytest.mark.filterwarnings("ignore")
def test_scores_are_the_harnesss_on_the_same_prompts(sib200: Path, model_folder: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and its libraries'
        lm_eval = pytest.importorskip("lm_eval")
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    prompts = ["en-2", "id-3"]
    folder = model_folder("llama")
    export_lm_eval(
        load_task("sib200"), tmp_path / "tasks", sib200, languages=LANGUAGES, prompts=prompts, items=ITEMS
    )
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", batch_size=8, dtype="float32"),
        tasks=["sib200"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )
    config = config_for(sib200, languages=LANGUAGES, prompts=prompts, items=ITEMS)
    scores = evaluate(folder, config, tmp_path / "out", run="base")
    for language in LANGUAGES:
        ours = read_predictions(tmp_path / "out" / "predictions" / f"sib200.{language}.jsonl")
        right = []
        for prompt in prompts:
            mine = {p.item: p for p in ours if p.prompt == prompt}
            samples = theirs["samples"][f"sib200_{language}_{prompt}"]
            assert len(samples) == len(mine) == ITEMS
            for sample in samples:
                likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
                found = mine[str(sample["doc"]["id"])]
                assert list(found.scores.values()) == pytest.approx(likelihoods, abs=1e-4)
            right.append(theirs["results"][f"sib200_{language}_{prompt}"]["acc,none"])
        [accuracy] = [s.value for s in scores if (s.run, s.metric, s.language) == ("base", "accuracy", language)]
        assert accuracy == pytest.approx(sum(right) / 2, abs=1e-12)


def test_items_that_flores_has_are_found(sib200: Path) -> None:
    """90 of 204 are in FLORES's dev part, and the others in devtest; 88 would be found without reading quotes."""
    config = config_for(sib200)
    selection = select_tasks(config)
    index = ItemIndex(selection.item_texts())
    _, _, found = prepare_corpus(config, ContaminationCheck("report", index, ""))
    assert found.checked == 997
    sets = {one.language: one for one in contaminated_sets("corpora", found, index)}
    assert list(sets) == ["eng", "ind", "jav", "min", "sun"]
    for code, one in sets.items():
        # As lines of the two files, read by nothing of ours:
        name = f"{code}_Latn"
        lines = (sib200 / "flores200" / "dev" / f"{name}.dev").read_text(encoding="utf-8").split("\n")
        with (sib200 / "sib200" / name / "test.tsv").open(encoding="utf-8", newline="") as file:
            tested = [row["text"].strip() for row in csv.DictReader(file, delimiter="\t")]
        same = sum(text in {line.strip() for line in lines} for text in tested)
        assert (one.items, one.exact, one.size, same) == (90, 90, 204, 90)
