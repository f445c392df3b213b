"""Tasks that lm-evaluation-harness defines, on made-up data in the columns of their data sets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

WORDS = "food place room hotel warung clean cold good enak resik bersih jaga omah srengenge banyu kali".split()  # noqa: SIM905
ITEMS = 6

Row = dict[str, Any]


def _sentence(draw: random.Random, low: int = 3, high: int = 9) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(low, high))).capitalize() + "."


def _rows(name: str, make: Callable[[random.Random, int], Row], count: int = ITEMS) -> list[Row]:
    draw = random.Random(name)
    return [make(draw, number) for number in range(count)]


def _arc(draw: random.Random, _: int) -> Row:
    labels = draw.choice(["ABCD", "123", "ABCDE"])
    texts = [_sentence(draw, 1, 6) for _ in labels]
    choices = {"text": texts, "label": list(labels)}
    return {"question": _sentence(draw), "choices": choices, "answerKey": draw.choice(labels)}


def _hellaswag(draw: random.Random, _: int) -> Row:
    endings = [_sentence(draw) for _ in range(4)]
    context = {"ctx_a": _sentence(draw), "ctx_b": "dia", "activity_label": "Cooking"}
    return {**context, "endings": endings, "label": str(draw.randrange(4))}


def _belebele(draw: random.Random, number: int) -> Row:
    passage = _sentence(random.Random(number // 2), 20, 30)  # two questions about each
    answers = {f"mc_answer{place}": _sentence(draw, 1, 5) for place in range(1, 5)}
    question = {"flores_passage": passage, "question": _sentence(draw), "correct_answer_num": str(number % 4 + 1)}
    return {**question, **answers}


def _mmlu(draw: random.Random, number: int) -> Row:
    return {
        "question": _sentence(draw),
        "choices": [_sentence(draw, 1, 5) for _ in range(4)],
        "answer": number % 4,
    }


def _truthful(draw: random.Random, number: int) -> Row:
    choices = [_sentence(draw, 1, 9) for _ in range(2 + number % 5)]
    targets = {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}
    return {"question": _sentence(draw), "mc1_targets": targets, "mc2_targets": targets}


def _story(draw: random.Random, number: int) -> Row:
    sentences = {f"input_sentence_{place}": _sentence(draw) for place in range(1, 5)}
    endings = {f"sentence_quiz{place}": _sentence(draw) for place in (1, 2)}
    return {**sentences, **endings, "answer_right_ending": number % 2 + 1}


def _choice(draw: random.Random, number: int) -> Row:
    question = {"premise": _sentence(draw), "question": draw.choice(["cause", "effect"])}
    return {**question, "choice1": _sentence(draw), "choice2": _sentence(draw), "label": number % 2}


def _winogrande(draw: random.Random, number: int) -> Row:
    sentence = _sentence(draw)[:-1] + " _ " + _sentence(draw)
    return {"sentence": sentence, "option1": "Ani", "option2": "Budi si anak", "answer": str(number % 2 + 1)}


def _sciq(draw: random.Random, _: int) -> Row:
    wrong = {f"distractor{place}": _sentence(draw, 1, 3) for place in (1, 2, 3)}
    return {"support": _sentence(draw), "question": _sentence(draw), "correct_answer": "kali", **wrong}


DEFINED: dict[str, tuple[Iterable[str], Callable[[random.Random, int], Row]]] = {
    "arc_easy": (["train", "validation", "test"], _arc),
    "hellaswag": (["train", "validation"], _hellaswag),
    "piqa": (
        ["train", "validation"],
        lambda d, n: {"goal": _sentence(d), "sol1": _sentence(d), "sol2": _sentence(d, 1, 2), "label": n % 2},
    ),
    "winogrande": (["train", "validation"], _winogrande),
    "boolq": (
        ["train", "validation"],
        lambda d, n: {"passage": _sentence(d, 10, 20), "question": _sentence(d)[:-1], "label": n % 2},
    ),
    "xcopa_id": (["validation", "test"], _choice),
    "copal_id_standard": (["test"], _choice),
    "xstorycloze_id": (["train", "eval"], _story),
    "belebele_ind_Latn": (["test"], _belebele),
    "mmlu_anatomy": (["test", "dev"], _mmlu),
    "openbookqa": (
        ["train", "validation", "test"],
        lambda d, n: {"question_stem": _sentence(d), **{k: v for k, v in _arc(d, n).items() if k != "question"}},
    ),
    "sciq": (["train", "validation", "test"], _sciq),
    "xnli_en": (
        ["train", "validation"],
        lambda d, n: {"premise": _sentence(d)[:-1], "hypothesis": _sentence(d), "label": n % 3},
    ),
    "blimp_adjunct_island": (
        ["train"],
        lambda d, _: {"sentence_good": _sentence(d), "sentence_bad": _sentence(d)},
    ),
    "lambada_openai": (["test"], lambda d, _: {"text": _sentence(d, 12, 20)[:-1]}),
    "wikitext": (
        ["train", "validation", "test"],
        lambda d, n: {"page": " ".join(_sentence(d, 8, 12) for _ in range(1 + 12 * (n % 3)))},
    ),
    "gsm8k": (
        ["train", "test"],
        lambda d, n: {"question": _sentence(d), "answer": f"{_sentence(d)}\n#### {n}"},
    ),
    "wmt14-fr-en": (
        ["train", "validation", "test"],
        lambda d, _: {"translation": {"fr": _sentence(d), "en": _sentence(d)}},
    ),
    "nq_open": (["train", "validation"], lambda d, _: {"question": _sentence(d)[:-1], "answer": ["kali", "omah"]}),
}
"""By task of the harness, the splits of its data set and what makes a row; `truthfulqa` needs packages more."""


def write_task(folder: Path, name: str, **more: Any) -> None:
    """Writes a task of the harness with made-up data: its own definition with another data set and changed keys.

    To be loaded with `folder` as the harness's `include_path`.
    """
    splits, make = DEFINED[name]
    files = {}
    for split in splits:
        files[split] = str(folder / f"{name}.{split}.jsonl")
        rows = _rows(f"{name} {split}", make)
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    text = yaml.safe_dump({"include": str(_definition(name)), "task": name, **data, **more})
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


_FILES = {
    "blimp_adjunct_island": "blimp/adjunct_island.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "copal_id_standard": "copal_id/standard.yaml",
    "mmlu_anatomy": "mmlu/default/mmlu_anatomy.yaml",
    "winogrande": "winogrande/default.yaml",
    "wmt14-fr-en": "translation/wmt14_fr-en.yaml",
    "xcopa_id": "xcopa/default_id.yaml",
    "xstorycloze_id": "xstorycloze/default_id.yaml",
}


def _definition(name: str) -> Path:
    """The harness's own file; its index of all tasks takes seconds to make."""
    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks"
    first = "nq_open" if name == "nq_open" else name.partition("_")[0]
    return folder / _FILES.get(name, f"{first}/{name}.yaml")
