"""Options by item, words by item and solved examples: against lm-evaluation-harness's own task definitions."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
import yaml
from random_models import TEXTS

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation import evaluate, load_task, task_names
from instructalign.evaluation.predictions import read_evaluation_manifest, read_predictions
from instructalign.evaluation.score_table import headline
from instructalign.evaluation.task_items import read_items
from instructalign.evaluation.task_selection import choose_examples, select_tasks
from instructalign.evaluation.tasks import Task, build_task
from instructalign.pipeline import check_config
from instructalign.types import Counts

COUNT = 12


def belebele(number):
    return {
        "link": f"https://x/{number // 2}",
        "question_number": number % 2 + 1,
        "flores_passage": TEXTS[number % 6],
        "question": f"What is {number}?",
        **{f"mc_answer{place}": f"{TEXTS[(number + place) % 5]} {place}" for place in (1, 2, 3, 4)},
        "correct_answer_num": str(number % 4 + 1),
    }


def xcopa(number):
    return {
        "idx": number,
        "premise": f"{TEXTS[number % 2].rstrip('.!')} {number}.",
        "choice1": "Makanannya enak sekali.",
        "choice2": f"Dia jaga warung {number}.",
        "question": ("cause", "effect")[number % 2],
        "label": number // 2 % 2,
    }


def mmlu(number):
    return {
        "sample_id": f"s/{number}",
        "question": f"How many are {number} and 1?",
        **{f"option_{letter}": str(number + place) for place, letter in enumerate("abcd")},
        "answer": "ABCD"[number % 4],
    }


# By task: its language and prompt, the file of its items, the items, and the harness's own definition.
SHAPES = {
    "belebele": ("ind", "en-letters", "belebele/ind_Latn.jsonl", belebele, "belebele/_default_template_yaml"),
    "xcopa": ("ind", "id-1", "xcopa/data/id/test.id.jsonl", xcopa, "xcopa/default_id.yaml"),
    "global_mmlu_lite": (
        "ind",
        "en-1",
        "global_mmlu_lite/id/test.jsonl",
        mmlu,
        "global_mmlu/default/id/_id_template_yaml",
    ),
}
EXAMPLES = {"xcopa": "xcopa/data/id/val.id.jsonl", "global_mmlu_lite": "global_mmlu_lite/id/dev.jsonl"}


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")


def config_of(data, **evaluation):
    return build_config(
        {
            "model": {"base": "base"},
            "languages": {"known": ["ind"], "new": ["jav"]},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
            "evaluation": {"data": str(data), "bootstrap": 20, **evaluation},
        }
    )


@pytest.mark.parametrize(("name", "shots"), [(name, 0) for name in SHAPES] + [(name, 5) for name in EXAMPLES])
@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_the_harness_gives_the_same_numbers(model_folder, tmp_path, name, shots, family):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm_eval = pytest.importorskip("lm_eval")
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        language, prompt, file, make, definition = SHAPES[name]
        data = tmp_path / "data"
        write(data / file, map(make, range(COUNT)))
        if name in EXAMPLES:
            write(data / EXAMPLES[name], map(make, range(100, 109)))
        config = config_of(data, tasks=[name], prompts=[prompt], shots=shots)
        scores = evaluate(model_folder(family), config, tmp_path / "out", run="base")
        ours = read_predictions(tmp_path / "out" / "predictions" / f"{name}.{language}.jsonl")

        # The harness's definition, with the data of this test; its examples are those that we draw.
        place = Path(lm_eval.__file__).parent / "tasks" / definition
        split = {"test": str(data / file)}
        if shots:
            chosen = choose_examples(config, load_task(name), language, [])
            key = load_task(name).fields["id"]
            by_id = {str(each[key]): each for each in map(make, range(100, 109))}
            write(tmp_path / "shots.jsonl", [by_id[item.id] for item in chosen])
            split["shots"] = str(tmp_path / "shots.jsonl")
        changes = {
            "task": "theirs",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": split},
            "test_split": "test",
            "validation_split": None,
            "fewshot_split": "shots" if shots else "test",
            "fewshot_config": {"sampler": "first_n"},
        }
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "theirs.yaml").write_text(yaml.safe_dump({"include": str(place), **changes}))
        theirs = lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(model_folder(family)), device="cpu", batch_size=4, dtype="float32"),
            tasks=["theirs"],
            num_fewshot=shots,
            task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
            bootstrap_iters=0,
        )
    samples = theirs["samples"]["theirs"]
    assert len(samples) == len(ours) == COUNT
    for sample, prediction in zip(samples, ours, strict=True):
        likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert list(prediction.scores.values()) == pytest.approx(likelihoods, abs=1e-4)
        gold = str(sample["target"])
        assert prediction.gold == (gold if gold.isalpha() else "ABCD"[int(gold)])
        assert prediction.by_item
    found = next(s for s in scores if (s.run, s.metric, s.language) == ("base", "accuracy", language))
    assert theirs["results"]["theirs"]["acc,none"] == pytest.approx(found.value, abs=1e-12)
    assert headline(scores, name) == "accuracy"
    random = next(s for s in scores if (s.run, s.language) == ("random", language))
    assert random.value == pytest.approx(1 / len(ours[0].scores))


OWN = {
    "name": "own",
    "data": {"format": "jsonl", "path": "own.jsonl"},
    "fields": {"id": ["a", "b"], "text": ["title", "body"], "kind": "kind", "label": "right"},
    "languages": ["ind"],
    "options": "options",
    "answer": "text",
    "words_for": {"kind": {"why": {"eng": "because"}, "then": {"eng": "so"}}},
    "edits": {"text": "drop_last"},
    "prompts": {
        "p": {"language": "eng", "prompt": "{text} {kind}"},
        "q": {
            "language": "eng",
            "prompt": "{text} {kind}\n{options}\nAnswer:",
            "answers": "letters",
            "option": "({letter}) {text}",
        },
    },
}
LINES = [
    {"a": 1, "b": 2, "title": "T", "body": "It rains.", "kind": "why", "right": "two", "options": ["one", "two"]},
    {
        "a": 1,
        "b": 3,
        "title": "T",
        "body": "It is dry!",
        "kind": "then",
        "right": "c",
        "options": '["a", "b", "c"]',
    },
]


def test_every_part_of_the_format_by_hand(tmp_path):
    write(tmp_path / "own.jsonl", LINES)
    task = build_task(OWN, "own.yaml")
    first, second = read_items(task, "ind", tmp_path)
    assert (first.id, first.label, first.options) == ("1-2", "B", ("one", "two"))
    assert (second.id, second.label, second.options) == ("1-3", "C", ("a", "b", "c"))
    assert task.fill("p", first) == "T\nIt rains because"
    assert task.words("p", first) == {"A": "one", "B": "two"}
    assert task.fill("q", second) == "T\nIt is dry so\n(A) a\n(B) b\n(C) c\nAnswer:"
    assert task.words("q", second) == {"A": "A", "B": "B", "C": "C"}
    assert task.fill("p", second, [first]) == "T\nIt rains because two\n\nT\nIt is dry so"


def test_options_of_any_number_are_scored_together(model_folder, tmp_path):
    write(tmp_path / "own.jsonl", LINES)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN), encoding="utf-8")
    for rule in ("sum", "calibrated", "bytes"):
        config = config_of(tmp_path, tasks=[str(tmp_path / "own.yaml")], scoring=rule)
        scores = evaluate(model_folder("llama"), config, tmp_path / rule, run="base")
        found = read_predictions(tmp_path / rule / "predictions" / "own.ind.jsonl")
        assert [len(each.scores) for each in found] == [2, 3, 2, 3]
        assert {s.metric for s in scores} == {"accuracy"}
        random = next(s for s in scores if (s.run, s.language) == ("random", "ind"))
        assert random.value == pytest.approx((1 / 2 + 1 / 3) / 2)
        own = next(s for s in scores if (s.run, s.language) == ("base", "ind"))
        assert own.value == pytest.approx(sum(each.predicted == each.gold for each in found) / 4)
        if rule == "calibrated":
            assert all(each.prior.keys() == each.scores.keys() for each in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": "three"}, r"label is 'three', which is not the text of an option"),
        ({"options": ["one"]}, r"two options or more"),
        ({"options": ["one", "", "two"]}, r"none of them empty"),
        ({"options": "one or two"}, r"expected a list of options in 'options'"),
        ({"kind": "when"}, r"kind is 'when'"),
        ({"body": 5}, r"'body' holds 5"),
        ({"body": ["x"]}, r"'body' holds \[\"x\"\]"),
    ],
)
def test_wrong_items_are_named(tmp_path, change, message):
    write(tmp_path / "own.jsonl", [LINES[0], {**LINES[1], **change}])
    with pytest.raises(DataError, match=rf"item '1-3' \(record 2\).*{message}"):
        read_items(build_task(OWN, "own.yaml"), "ind", tmp_path)


def test_items_without_text_are_left_out_and_counted(model_folder, tmp_path):
    empty = [{**LINES[1], "b": number, "title": text, "body": text} for number, text in ((4, None), (5, " "))]
    write(tmp_path / "own.jsonl", [*LINES, *empty])
    counts = Counts()
    assert len(read_items(build_task(OWN, "own.yaml"), "ind", tmp_path, counts=counts)) == 2
    assert (counts.read, counts.dropped) == (4, {"no text": 2})
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN), encoding="utf-8")
    evaluate(
        model_folder("llama"), config_of(tmp_path, tasks=[str(tmp_path / "own.yaml")]), tmp_path / "o", run="b"
    )
    assert read_evaluation_manifest(tmp_path / "o" / "predictions")["tasks"]["own"]["dropped"] == {
        "ind": {"no text": 2}
    }


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"labels": {"x": "y", "z": "w"}}, "labels: give either"),
        ({"options": None, "answer": "index"}, "answer: "),
        ({"metric": "f1_weighted"}, "metric: f1_weighted"),
        ({"edits": {"txt": "drop_last"}}, "edits.txt: no such field"),
        ({"words_for": {"kind": {"why": {"ind": "karena"}, "then": "so"}}}, "words_for.kind.why: no word in eng"),
        ({"words_for": {"kind": {"why": "because {text}", "then": "so"}}}, "words_for.kind.why: nothing is put"),
        ({"hub": {"dataset": "x/{name}"}}, "hub.dataset: nothing is put"),
        (
            {"prompts": {"p": {"language": "eng", "prompt": "{text} {kind}", "answers": "letters"}}},
            r"no slot {options}",
        ),
        (
            {"prompts": {"p": {"language": "eng", "prompt": "{text} {kind}", "option": "{x}"}}},
            r"prompts.p.option: '{x}'",
        ),
    ],
)
def test_a_wrong_task_is_named_by_its_key(change, where):
    with pytest.raises(ConfigError, match=re.escape(where)):
        build_task({**OWN, **change}, "own.yaml")


def test_examples_are_the_seeds_and_must_be_there(tmp_path):
    data = tmp_path
    write(data / SHAPES["xcopa"][2], map(xcopa, range(COUNT)))
    write(data / EXAMPLES["xcopa"], map(xcopa, range(100, 109)))
    config = config_of(data, tasks=["xcopa"], shots=3)
    plan = select_tasks(config).classification[0]
    assert plan.examples["ind"] == choose_examples(config, load_task("xcopa"), "ind", [])
    other = choose_examples(config.model_copy(update={"seed": 7}), load_task("xcopa"), "ind", [])
    assert len(plan.examples["ind"]) == len(other) == 3
    assert plan.examples["ind"] != other
    with pytest.raises(DataError, match="9 items to show"):
        select_tasks(config_of(data, tasks=["xcopa"], shots=10))
    with pytest.raises(ConfigError, match=r"evaluation\.shots: belebele"):
        check_config(config_of(data, tasks=["belebele"], shots=1))


PUBLISHED = {  # columns of tasks whose shape no test above has
    "copal_id": ("ind", {**xcopa(0), "terminology": 0, "culture": 1, "language": 0}),
    "include": ("ind", {**mmlu(0), "answer": 0, "country": "Indonesia"}),
    "indommlu": (
        "jav",
        {"subject": "Bahasa Jawa", "soal": "Sapa?", "jawaban": "A. iki\nB. kae\nC. iku", "kunci": "B"},
    ),
    "xstory_cloze": (
        "ind",
        {
            "story_id": "s",
            **{f"input_sentence_{n}": f"Kalimat {n}." for n in (1, 2, 3, 4)},
            "sentence_quiz1": "Satu.",
            "sentence_quiz2": "Dua.",
            "answer_right_ending": 2,
        },
    ),
    "masakhanews": ("yor", {"category": "sports", "headline": "H", "text": "T", "url": "u"}),
    "afrixnli": ("yor", {"premise": "P", "hypothesis": "H", "label": "2"}),
    "americas_nli": ("que", {"language": "quy", "premise": "P", "hypothesis": "H", "label": "neutral"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_columns_are_read(tmp_path, name):
    code, record = PUBLISHED[name]
    task = load_task(name)
    assert isinstance(task, Task)
    keep = {key: task.data.options[key] for key in ("language_column",) if task.data.options.get(key)}
    changed = {"format": "jsonl", "path": "x.jsonl", **keep}
    data = {
        **task.model_dump(mode="json", exclude_unset=True, exclude={"data", "hub", "examples", "hub_examples"})
    }
    write(tmp_path / "x.jsonl", [record])
    item = read_items(build_task({**data, "data": changed}, name), code, tmp_path)[0]
    for prompt in task.prompts:
        assert task.words(prompt, item)[item.label]
        assert "{" not in task.fill(prompt, item)
    expected = {"copal_id": "A", "include": "A", "indommlu": "B", "xstory_cloze": "B"}
    assert item.label == expected.get(name, record.get("label", record.get("category")))


def test_every_shipped_task_names_its_source_and_licence():
    for name in task_names():
        task = load_task(name)
        assert task.source, name
        assert task.licence, name
        assert task.title, name
