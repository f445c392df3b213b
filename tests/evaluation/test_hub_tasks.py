"""Every Hub dataset that ships by name, read from a stand-in server with the file list of the public one.

The lists are those of the public datasets' pages and of code that reads them (2026): NusaX-senti's converted
branch has folders by language and no card; FLORES+ has a card with a subset for each language, is gated and
calls some languages otherwise than FLORES-200; SIB-200 has tab-separated files with quoted texts; xP3 has a
loading script beside its JSON lines. The rows are made up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from hub_server import TOKEN, HubServer

Select = Callable[..., Any]
NUSAX = ["negative", "neutral", "positive"]
NLI = ["entailment", "neutral", "contradiction"]
FLORES_PLUS = ["eng_Latn", "jav_Latn", "ace_Latn", "gug_Latn", "cmn_Hans"]


def parquet(columns: dict[str, list[Any]], classes: dict[str, list[str]]) -> bytes:
    """A Parquet file as `datasets` writes it, with the names of class labels in its schema."""
    import datasets

    features = {
        key: datasets.ClassLabel(names=classes[key])
        if key in classes
        else datasets.Value("int64" if isinstance(values[0], int) else "string")
        for key, values in columns.items()
    }
    file = BytesIO()
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(file)
    return file.getvalue()


def card(*subsets: tuple[str, dict[str, str]]) -> bytes:
    """A dataset's card that names the files of each subset."""
    lines = ["---", "configs:"]
    for name, files in subsets:
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split, path in files.items() for line in (f"  - split: {split}", f"    path: {path}")]
    return "\n".join([*lines, "---", "# A card", ""]).encode()


def nusax() -> dict[str, dict[str, bytes]]:
    converted: dict[str, bytes] = {".gitattributes": b""}
    for code in ("ace", "eng", "jav"):
        for split in ("train", "test", "validation"):
            columns = {
                "id": [f"{number}" for number in (7, 3, 9)],
                "text": [f"{split} {code} {number}" for number in range(3)],
                "lang": [code] * 3,
                "label": [2, 0, 1],
            }
            converted[f"{code}/{split}/0000.parquet"] = parquet(columns, {"label": NUSAX})
    script = {"README.md": b"---\nlicense: cc-by-sa-4.0\n---\n# NusaX\n", "NusaX-senti.py": b"raise SystemExit\n"}
    return {"main": script, "refs/convert/parquet": converted}


def scripted() -> dict[str, dict[str, bytes]]:
    """A dataset with a loading script and no list of subsets: what there is of it is in the converted branch."""
    converted = {
        f"{code}/{split}/0000.parquet": parquet(
            {"text": [f"{split} {code}", "x"], "stars": [1, 0]}, {"stars": ["bad", "good"]}
        )
        for code in ("eng", "jav")
        for split in ("train", "test")
    }
    return {
        "main": {"README.md": b"# Old\n", "old-set.py": b"raise SystemExit\n"},
        "refs/convert/parquet": converted,
    }


def flores_plus() -> dict[str, dict[str, bytes]]:
    files = {
        "README.md": card(
            *[(name, {split: f"{split}/{name}.parquet" for split in ("dev", "devtest")}) for name in FLORES_PLUS]
        )
    }
    for name in FLORES_PLUS:
        for split, count in (("dev", 3), ("devtest", 4)):
            columns = {
                "id": list(range(count)),
                "iso_639_3": [name[:3]] * count,
                "iso_15924": [name[4:]] * count,
                "glottocode": ["made1234"] * count,
                "text": [f"{split} {name} {number}" for number in range(count)],
                "url": ["https://example.org"] * count,
                "topic": ["made up"] * count,
            }
            files[f"{split}/{name}.parquet"] = parquet(columns, {})
    return {"main": files}


def sib200() -> dict[str, dict[str, bytes]]:
    names = ("eng_Latn", "jav_Latn")
    rows = '12\tsports\t"It said ""Go"" twice."\n5\tscience/technology\tAtoms are small.\n'
    parts = {"train": "train", "validation": "dev", "test": "test"}
    subsets = [(name, {split: f"data/{name}/{file}.tsv" for split, file in parts.items()}) for name in names]
    files = {"README.md": card(*subsets)}
    for name in names:
        for split in ("train", "dev", "test"):
            files[f"data/{name}/{split}.tsv"] = f"index_id\tcategory\ttext\n{rows}".encode()
    return {"main": files}


def xnli() -> dict[str, dict[str, bytes]]:
    codes = ("en", "sw", "zh")
    files = {
        "README.md": card(
            *[(code, {split: f"{code}/{split}-*" for split in ("train", "test", "validation")}) for code in codes]
        )
    }
    for code in codes:
        columns = {"premise": [f"{code} p", "q"], "hypothesis": ["h", "i"], "label": [2, 0]}
        for split in ("train", "test", "validation"):
            files[f"{code}/{split}-00000-of-00001.parquet"] = parquet(columns, {"label": NLI})
    return {"main": files}


def xp3() -> dict[str, dict[str, bytes]]:
    files = {"README.md": b"---\nlicense: apache-2.0\n---\n# xP3\n", "xP3.py": b"raise SystemExit\n"}
    names = ("GEM_wiki_lingua_en_article_summary_en", "adversarial_qa_dbert_based_on", "super_glue_copa_cause?")
    for name in names:
        lines = [json.dumps({"inputs": f"{name} {number}", "targets": "yes"}) for number in range(20)]
        files[f"en/xp3_{name}.jsonl"] = "\n".join([*lines, ""]).encode()
    files["id/xp3_other.jsonl"] = b'{"inputs": "lain", "targets": "ya"}\n'
    return {"main": files}


def jsonl(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def table(separator: str, *records: dict[str, Any]) -> bytes:
    lines = [separator.join(records[0]), *(separator.join(map(str, each.values())) for each in records)]
    return "\n".join([*lines, ""]).encode()


def subsets(code: str, ending: str, *splits: str) -> tuple[str, dict[str, str]]:
    """A card's entry for a subset with a file for each split in a folder of its name."""
    return code, {split: f"{code}/{split}{ending}" for split in splits}


OPTIONS = {f"option_{letter}": f"choice {letter}" for letter in "abcd"}
COPA = {
    "premise": "It rained.",
    "choice1": "He ran.",
    "choice2": "He slept.",
    "question": "effect",
    "label": 0,
    "idx": 4,
}
STORY = {
    "story_id": "s1",
    **{f"input_sentence_{number}": f"Sentence {number}." for number in (1, 2, 3, 4)},
    "sentence_quiz1": "Good.",
    "sentence_quiz2": "Bad.",
    "answer_right_ending": 2,
}
PARQUET = "-00000-of-00001.parquet"
BELEBELE = {
    "link": "https://example.org/1",
    "question_number": 2,
    "flores_passage": "A passage.",
    "question": "What?",
    **{f"mc_answer{number}": f"answer {number}" for number in (1, 2, 3, 4)},
    "correct_answer_num": "3",
    "dialect": "ind_Latn",
    "ds": "2023-01-01",
}


def columns_of(record: dict[str, Any]) -> dict[str, list[Any]]:
    return {key: [value] for key, value in record.items()}


LORAX = {
    "README.md": card(
        ("Causal reasoning", {"test": "Causal reasoning/test-*"}),
        ("MCQA", {"test": "MCQA/test-*", "train": "MCQA/train-*"}),
        ("NLI", {"test": "NLI/test-*"}),
    ),
    f"Causal reasoning/test{PARQUET}": parquet(
        columns_of(
            {"language": "Javanese", **{"question_type" if k == "question" else k: v for k, v in COPA.items()}}
        ),
        {},
    ),
    f"NLI/test{PARQUET}": parquet(
        {
            "language": ["Indonesian", "Javanese"],
            "Premise ID": [1, 1],
            "Pair ID": [7, 7],
            "Premise": ["p", "q"],
            "Hypothesis": ["h", "i"],
            "Label": ["neutral", "contradiction"],
        },
        {},
    ),
    **{
        f"MCQA/{split}{PARQUET}": parquet(
            columns_of(
                {
                    "language": "Javanese",
                    "Pair ID": f"x-{split}",
                    "question": "Sapa?",
                    "answer": "Budi",
                    "context": f"Crita {split}.",
                    "title": "T",
                }
            ),
            {},
        )
        for split in ("test", "train")
    },
}
"""The columns and subsets that the set's card lists."""


# By task: the dataset, its files as published, a language that it has, and the label of its one item.
PUBLISHED: dict[str, tuple[str, dict[str, bytes], str, str]] = {
    "belebele": (
        "facebook/belebele",
        {
            "README.md": card(("ind_Latn", {"test": "data/ind_Latn.jsonl"})),
            "data/ind_Latn.jsonl": jsonl(BELEBELE),
        },
        "ind",
        "C",
    ),
    "xcopa": (
        "cambridgeltl/xcopa",
        {
            "README.md": card(("id", {"validation": "id/validation-*", "test": "id/test-*"})),
            f"id/test{PARQUET}": parquet(columns_of(COPA), {}),
            f"id/validation{PARQUET}": parquet(columns_of(COPA), {}),
        },
        "ind",
        "A",
    ),
    "copal_id": (
        "haryoaw/COPAL",
        {
            "README.md": card(("id", {"test": "test_copal.csv", "test_colloquial": "test_copal_colloquial.csv"})),
            "test_copal.csv": table(",", COPA),
            "test_copal_colloquial.csv": table(",", COPA),
        },
        "ind",
        "A",
    ),
    "global_mmlu_lite": (
        "CohereLabs/Global-MMLU-Lite",
        {
            "README.md": card(("id", {"test": "id/test-*", "dev": "id/dev-*"})),
            **{
                f"id/{split}{PARQUET}": parquet(
                    columns_of(
                        {"sample_id": "x/1", "subject": "law", "question": "Which?", **OPTIONS, "answer": "C"}
                    ),
                    {},
                )
                for split in ("test", "dev")
            },
        },
        "ind",
        "C",
    ),
    "include": (
        "CohereForAI/include-base-44",
        {
            "README.md": card(
                ("Indonesian", {"validation": "Indonesian/validation-*", "test": "Indonesian/test-*"})
            ),
            **{
                f"Indonesian/{split}{PARQUET}": parquet(
                    columns_of({"language": "Indonesian", "question": "Which?", **OPTIONS, "answer": 1}), {}
                )
                for split in ("validation", "test")
            },
        },
        "ind",
        "B",
    ),
    "xstory_cloze": (
        "juletxara/xstory_cloze",
        {
            "README.md": card(("id", {"train": "id/train-*", "eval": "id/eval-*"})),
            f"id/train{PARQUET}": parquet(columns_of(STORY), {}),
            f"id/eval{PARQUET}": parquet(columns_of(STORY), {}),
        },
        "ind",
        "B",
    ),
    "masakhanews": (
        "masakhane/masakhanews",
        {
            "README.md": card(subsets("eng", ".parquet", "train", "validation", "test")),
            **{
                f"eng/{split}.parquet": parquet(
                    {
                        "label": [3],
                        "headline": ["News"],
                        "text": ["Words."],
                        "headline_text": ["News Words."],
                        "url": ["u"],
                    },
                    {
                        "label": [
                            "business",
                            "entertainment",
                            "health",
                            "politics",
                            "religion",
                            "sports",
                            "technology",
                        ]
                    },
                )
                for split in ("train", "validation", "test")
            },
        },
        "eng",
        "politics",
    ),
    "americas_nli": (
        "nala-cub/americas_nli",
        {
            "README.md": card(("gn", {"validation": "gn/validation-*", "test": "gn/test-*"})),
            **{
                f"gn/{split}{PARQUET}": parquet(
                    {"language": ["gn"], "premise": ["p"], "hypothesis": ["h"], "label": [1]}, {"label": NLI}
                )
                for split in ("validation", "test")
            },
        },
        "grn",
        "neutral",
    ),
    "afrixnli": (
        "masakhane/afrixnli",
        {
            "README.md": card(("eng", {"validation": "data/eng/dev.tsv", "test": "data/eng/test.tsv"})),
            "data/eng/dev.tsv": table("\t", {"premise": "p", "hypothesis": "h", "label": 2}),
            "data/eng/test.tsv": table("\t", {"premise": "p", "hypothesis": "h", "label": 2}),
        },
        "eng",
        "2",
    ),
    "loraxbench_nli": ("google/LoraxBench", LORAX, "jav", "contradiction"),
    "loraxbench_causal": ("google/LoraxBench", LORAX, "jav", "A"),
    "loraxbench_reading": ("google/LoraxBench", LORAX, "jav", "Budi"),
    "indommlu": (
        "indolem/IndoMMLU",
        {
            "README.md": b"---\nlicense: mit\n---\n",
            "IndoMMLU.py": b"raise SystemExit\n",
            "IndoMMLU.csv": (
                b'subject,soal,kunci,jawaban\nBahasa Indonesia,Apa?,B,"A. satu\nB. dua\nC. tiga"\n'
                b'Bahasa Jawa,Apa iki?,A,"A. siji\nB. loro"\n'
            ),
        },
        "ind",
        "B",
    ),
}


PROGRAM = """
import json, logging, sys
from pathlib import Path
from instructalign.config_file import load_config
from instructalign.errors import InstructAlignError
from instructalign.evaluation.task_items import absent
from instructalign.evaluation.task_selection import select_tasks
from instructalign.evaluation.tasks import load_task

def plain(items):
    return [[item.id, item.fields, item.label or item.references[0]] for item in items]

for line in sys.stdin:
    try:
        chosen = select_tasks(load_config("config.yaml", json.loads(line)))
    except InstructAlignError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        continue
    items = {
        plan.name: {code: plain(some) for code, some in plan.items.items()}
        for plan in [*chosen.classification, *chosen.generation]
    }
    left = {plan.name: dict(plan.left_out) for plan in [*chosen.classification, *chosen.generation]}
    ways = {way.name: [way.items, way.texts, way.references] for way in chosen.translation}
    texts = {plan.name: dict(plan.texts) for plan in chosen.texts}
    left |= {plan.name: dict(plan.left_out) for plan in chosen.texts}
    print(json.dumps({"items": items, "left": left, "ways": ways, "texts": texts}), flush=True)
"""

CONFIG = """
model: {base: toy}
languages: {known: [eng, zho], new: [jav, ace, grn], related: [mad, swa, ban]}
corpora: [{format: toy}]
training: {steps: 5}
evaluation: {tasks: [nusax_senti], data: nowhere}
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    server = HubServer(
        {
            "indonlp/NusaX-senti": nusax(),
            "openlanguagedata/flores_plus": flores_plus(),
            "Davlan/sib200": sib200(),
            "facebook/xnli": xnli(),
            "bigscience/xP3": xp3(),
            "somebody/old-set": scripted(),
            **{dataset: {"main": files} for dataset, files, _, _ in PUBLISHED.values()},
        },
        gated=("openlanguagedata/flores_plus",),
    )
    yield server
    server.close()


@contextmanager
def selecting(hub: HubServer, folder: Path, token: str = TOKEN) -> Iterator[Select]:
    """A process that takes the server for the Hub; gives what `select_tasks` reads of some tasks."""
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    where: dict[str, Any] = {"env": os.environ | hub.environment(folder / "cache", token), "cwd": folder}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen([sys.executable, "-c", PROGRAM], **where, **pipes, stderr=stderr) as process,
    ):

        def select(*tasks: str, settings: tuple[str, ...] = ()) -> Any:
            process.stdin.write(json.dumps([f"evaluation.tasks=[{', '.join(tasks)}]", *settings]) + "\n")
            process.stdin.flush()
            told = process.stdout.readline()
            assert told, (folder / "stderr").read_text()
            return json.loads(told)

        yield select


@pytest.fixture(scope="module")
def select(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Select]:
    with selecting(hub, tmp_path_factory.mktemp("tasks")) as process:
        yield process


@pytest.fixture(scope="module")
def read(select: Select) -> Any:
    return select("nusax_senti", "sib200", "xnli", "flores_xss", "flores_translation", "flores_text")


def test_nusax_loads_from_its_converted_branch(read: Any) -> None:
    assert list(read["items"]["nusax_senti"]) == ["eng", "jav", "ace"]
    assert read["items"]["nusax_senti"]["ace"] == [
        ["7", {"text": "test ace 0"}, "positive"],
        ["3", {"text": "test ace 1"}, "negative"],
        ["9", {"text": "test ace 2"}, "neutral"],
    ]


def test_a_language_that_the_set_lacks_is_left_out_and_said(read: Any) -> None:
    assert read["left"]["nusax_senti"] == {
        code: f"the dataset indonlp/NusaX-senti has no file {code}/test/*.parquet" for code in ("mad", "ban")
    }
    assert read["left"]["sib200"] == {
        code: f"the dataset Davlan/sib200 has no subset {name}"
        for code, name in [("zho", "zho_Hans"), ("ace", "ace_Latn"), ("grn", "grn_Latn"), ("ban", "ban_Latn")]
    }


def test_sib200_is_the_same_from_the_hub_and_from_its_files(read: Any, tmp_path: Path) -> None:
    from instructalign.evaluation.task_items import read_items
    from instructalign.evaluation.tasks import load_task

    assert read["items"]["sib200"]["jav"] == [
        ["12", {"text": 'It said "Go" twice.'}, "sports"],
        ["5", {"text": "Atoms are small."}, "science/technology"],
    ]
    file = tmp_path / "sib200" / "jav_Latn" / "test.tsv"
    file.parent.mkdir(parents=True)
    file.write_bytes(sib200()["main"]["data/jav_Latn/test.tsv"])
    items = read_items(load_task("sib200"), "jav", tmp_path)
    assert [[item.id, item.fields, item.label] for item in items] == read["items"]["sib200"]["jav"]


def test_xnli_loads_with_the_columns_of_its_files(read: Any) -> None:
    assert read["items"]["xnli"]["swa"] == [
        ["1", {"premise": "sw p", "hypothesis": "h"}, "contradiction"],
        ["2", {"premise": "q", "hypothesis": "i"}, "entailment"],
    ]
    assert list(read["items"]["xnli"]) == ["eng", "zho", "swa"]


def test_flores_plus_makes_the_pairs_of_the_files(read: Any, tmp_path: Path) -> None:
    from instructalign.evaluation.task_items import read_items
    from instructalign.evaluation.tasks import load_task

    folder = tmp_path / "flores200" / "devtest"
    folder.mkdir(parents=True)
    for ours, theirs in [("eng_Latn", "eng_Latn"), ("grn_Latn", "gug_Latn")]:
        lines = "".join(f"devtest {theirs} {number}\n" for number in range(4))
        (folder / f"{ours}.devtest").write_text(lines, encoding="utf-8")
    items = read_items(load_task("flores_xss"), "grn", tmp_path)
    assert [[item.id, item.fields, item.label] for item in items] == read["items"]["flores_xss"]["grn"]
    assert read["left"]["flores_xss"] == {"ban": "the dataset openlanguagedata/flores_plus has no subset ban_Latn"}


def test_plain_text_of_flores_plus_has_the_numbers_of_the_lines(read: Any) -> None:
    assert list(read["texts"]["flores_text"]) == ["eng", "zho", "jav", "ace", "grn"]
    assert read["texts"]["flores_text"]["grn"] == [[str(n + 1), f"devtest gug_Latn {n}"] for n in range(4)]
    assert read["left"]["flores_text"] == {
        "ban": "the dataset openlanguagedata/flores_plus has no subset ban_Latn"
    }


def test_flores_plus_is_translated_both_ways(read: Any) -> None:
    english = [f"devtest eng_Latn {number}" for number in range(4)]
    guarani = [f"devtest gug_Latn {number}" for number in range(4)]
    assert read["ways"]["flores_translation.eng-grn.jsonl"] == [["1", "2", "3", "4"], english, guarani]
    assert read["ways"]["flores_translation.grn-eng.jsonl"] == [["1", "2", "3", "4"], guarani, english]
    assert sorted(read["ways"]) == sorted(
        f"flores_translation.{a}-{b}.jsonl"
        for code in ("zho", "jav", "ace", "grn")
        for a, b in [("eng", code), (code, "eng")]
    )


def test_a_set_with_a_loading_script_is_read_from_the_hubs_conversion(select: Select, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(
        "name: old\ndata: {format: csv, path: 'old/{name}.csv'}\n"
        "hub: {dataset: somebody/old-set, config: '{name}', split: test}\n"
        "fields: {text: text, label: stars}\nlanguages: [eng, jav, ace]\n"
        "labels: {good: good, bad: bad}\nprompts: {p: {language: eng, prompt: '{text}?'}}\n",
        encoding="utf-8",
    )
    read = select(str(tmp_path / "old.yaml"))
    assert "error" not in read, read["error"]
    assert read["items"]["old"] == {
        code: [["1", {"text": f"test {code}"}, "good"], ["2", {"text": "x"}, "bad"]] for code in ("eng", "jav")
    }
    assert read["left"]["old"] == {"ace": "the dataset somebody/old-set has no subset ace"}


def test_a_named_language_that_the_hub_lacks_is_an_error(select: Select) -> None:
    said = select("nusax_senti", settings=("evaluation.languages=[mad]",))
    assert said["error"].startswith("DataError: nusax_senti in mad, requested by evaluation.languages:")


@pytest.fixture(scope="module")
def published(select: Select) -> Any:
    return select(*PUBLISHED, settings=("languages.known=[eng, zho, ind]",))


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_published_set_loads_and_what_it_lacks_is_left_out(published: Any, task: str) -> None:
    dataset, _, language, label = PUBLISHED[task]
    assert "error" not in published, published["error"]
    [item] = published["items"][task][language]
    assert str(item[2]) == label
    assert all(f"{dataset} has no" in reason for reason in published["left"][task].values())
    assert language not in published["left"][task]


def test_every_task_that_names_the_hub_is_tried_here(hub: HubServer) -> None:
    from instructalign.evaluation.tasks import load_task, task_names

    named = {name: task.hub for name in task_names() if (task := load_task(name)) and getattr(task, "hub", None)}
    assert {entry.options["dataset"] for entry in named.values()} <= set(hub.datasets)


@pytest.mark.parametrize("token", ["", "hf_of_somebody_else"])
def test_without_access_to_a_gated_set_one_sentence_says_what_to_do(
    hub: HubServer, tmp_path: Path, token: str
) -> None:
    with selecting(hub, tmp_path, token) as ask:
        said = ask("flores_translation")
    assert said["error"].startswith("DataError: the dataset openlanguagedata/flores_plus")
    assert "accept its terms" in said["error"]
    assert "hf auth login" in said["error"]


def test_corpus_and_replay_of_the_paper_load(hub: HubServer, tmp_path: Path) -> None:
    from instructalign.config_file import load_config

    preset = Path(__file__).parents[2] / "configs" / "paper" / "bloomz-560m.yaml"
    replay = load_config(preset).replay
    assert replay is not None
    program = (
        "import json, sys\n"
        "from instructalign.config_file import load_config\n"
        "from instructalign.data import read_corpora\n"
        "from instructalign.mixture import load_replay\n"
        "config = load_config(sys.argv[1])\n"
        "rows = read_corpora(config.corpora, ['eng', 'jav', 'grn'])\n"
        "replay = load_replay(config.replay, 1)\n"
        "print(json.dumps([[rows[n].id, dict(rows[n].texts)] for n in range(len(rows))]))\n"
        "print(json.dumps([e.prompt for e in replay.examples]))\n"
    )
    source = json.dumps(replay.sources[0].options | {"format": "hub"})
    (tmp_path / "config.yaml").write_text(
        "model: {base: toy}\nlanguages: {known: [eng], new: [jav, grn]}\n"
        "corpora: [{format: flores_plus}]\ntraining: {steps: 5}\n"
        f"replay: {{source: {source}, size: 12}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-c", program, "config.yaml"]
    environment = os.environ | hub.environment(tmp_path / "cache", TOKEN)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, replayed = map(json.loads, done.stdout.splitlines()[-2:])
    assert len(rows) == 3 + 4
    texts = {"eng": "dev eng_Latn 0", "jav": "dev jav_Latn 0", "grn": "dev gug_Latn 0"}
    assert rows[0] == ["flores_plus/dev-0", texts]
    assert len(replayed) == 12
    assert not any(prompt.startswith("lain") for prompt in replayed)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("nusax_senti", ["indonlp/NusaX-senti", "refs/convert/parquet", "CC BY-SA 4.0"]),
        ("flores_translation", ["openlanguagedata/flores_plus", "gated", "hf auth login", "CC BY-SA 4.0"]),
        ("flores_xss", ["openlanguagedata/flores_plus", "gated"]),
        ("sib200", ["Davlan/sib200"]),
        ("xnli", ["facebook/xnli", "CC BY-NC 4.0"]),
    ],
)
def test_show_says_where_the_data_come_from(task: str, says: list[str]) -> None:
    from typer.testing import CliRunner

    from instructalign.cli import app

    shown = CliRunner().invoke(app, ["tasks", "show", task])
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert all(each in text for each in says)
