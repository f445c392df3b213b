from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError, UnknownNameError
from instructalign.evaluation.task_items import absent, describe_sources, read_items, source_of
from instructalign.evaluation.task_selection import select_tasks
from instructalign.evaluation.tasks import build_task, load_task, task_names
from instructalign.types import Counts

REVIEWS = """\
name: reviews
data: {format: csv, path: "reviews-{name}.csv"}
fields: {text: review, label: stars}
languages: {jv: jawa, su: sunda}
labels: {good: bagus, bad: jelek}
prompts:
  mine: {language: ind, prompt: "{text}\\nBagus atau jelek?"}
"""


def reviews(**changes):
    return build_task({**yaml.safe_load(REVIEWS), **changes}, "reviews.yaml")


def problem(**changes):
    with pytest.raises(ConfigError) as caught:
        reviews(**changes)
    return str(caught.value)


def test_every_mistake_is_told_at_once():
    task = yaml.safe_load(REVIEWS) | {"labels": {"good": {"ind": "bagus"}, "bad": {"eng": "bad"}}}
    task["nam"] = task.pop("name")
    task["prompts"] = {
        "a": {"language": "ind", "prompt": "{texd}\nBagus?"},
        "b": {"language": "ind", "prompt": "{text} "},
        "c": {"language": "ind", "promt": "{text}"},
    }
    with pytest.raises(ConfigError) as caught:
        build_task(task, "reviews.yaml")
    assert [problem.partition(". Did")[0] for problem in caught.value.problems] == [
        "prompts.c.promt: unknown key",
        "nam: unknown key",
        "prompts.a.prompt: unknown slot {texd}",
        "labels.bad: no word in ind, the language of the prompt 'a'",
        "prompts.b.prompt: ends with white space; a space before the label is added anyway",
    ]
    assert "nam: unknown key. Did you mean 'name'?" in str(caught.value)


def test_what_is_wrong_itself_is_not_compared():
    said = problem(fields=3, labels={"good": "bagus"})
    assert "fields: " in said
    assert "labels: " in said
    assert "prompts" not in said


# -- shipped tasks ---------------------------------------------------------------------------------------


def test_every_shipped_task_loads_under_its_own_name():
    for name in task_names():
        task = load_task(name)
        assert task.name == name
        assert task.source
        assert task.licence


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("nusax_senti", "ace ban bbc bjn bug eng ind jav mad min nij sun"),
        ("nusatranslation_senti", "abs bbc bew bhp jav mad mak min mui rej sun"),
        ("nusatranslation_emot", "abs bbc bew bhp jav mad mak min mui rej sun"),
        ("nusaparagraph_emot", "bbc bew bug jav mad mak min mui rej sun"),
        ("nusaparagraph_topic", "bbc bew bug jav mad mak min mui rej sun"),
        ("nusaparagraph_rhetoric", "bbc bew bug jav mad mak min mui rej sun"),
        ("xnli", "ara bul deu ell eng fra hin rus spa swa tha tur urd vie zho"),
    ],
)
def test_tasks_have_all_languages_of_their_sets(name, languages):
    assert sorted(load_task(name).languages) == languages.split()


# Benchmarks with the wording of their authors or of lm-evaluation-harness, or of other countries.
PUBLISHED_WORDINGS = {
    *("belebele", "xcopa", "copal_id", "xstory_cloze", "global_mmlu_lite", "include", "indommlu"),
    *("masakhanews", "afrixnli", "americas_nli", "ntrex_translation", "loraxbench_causal", "loraxbench_reading"),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in task_names()
        if load_task(name).prompts and not name.startswith("toy") and name not in PUBLISHED_WORDINGS
    ],
)
def test_tasks_have_three_english_and_three_indonesian_prompts(name):
    prompts = load_task(name).prompts
    assert [prompt.language for prompt in prompts.values()] == ["eng"] * 3 + ["ind"] * 3
    assert list(prompts) == ["en-1", "en-2", "en-3", "id-1", "id-2", "id-3"]
    assert len({prompt.prompt for prompt in prompts.values()}) == 6


@pytest.mark.parametrize(
    ("name", "language", "count", "labels"),
    [
        ("nusax_senti", "bbc", 400, {"positive": 151, "neutral": 96, "negative": 153}),
        ("nusatranslation_senti", "bew", 1200, {"positive": 353, "negative": 847}),
        ("smsa", "ind", 500, {"positive": 208, "neutral": 88, "negative": 204}),
        ("emot", "ind", 440, {"anger": 110, "happy": 101, "sadness": 100, "fear": 65, "love": 64}),
        ("indonli", "ind", 2201, {"e": 808, "n": 629, "c": 764}),
        ("english_senti", "eng", 488, {"Positive": 245, "Negative": 243}),
    ],
)
def test_reads_the_real_sets(shared_data, name, language, count, labels):
    items = read_items(load_task(name), language, shared_data)
    assert len(items) == count
    assert {label: sum(item.label == label for item in items) for label in labels} == labels


def test_quotation_marks_around_english_texts_are_not_text(shared_data):
    items = read_items(load_task("english_senti"), "eng", shared_data)
    assert any(item.fields["text"].startswith('If this is the first of the "Nemesis" films') for item in items)


def test_a_language_without_files_is_absent(shared_data):
    task = load_task("nusax_senti")
    assert absent(task, shared_data, "ace") == ""
    assert absent(task, shared_data, "nij").endswith("sentiment/ngaju/test.csv does not exist")
    assert "the task has no deu" in absent(task, shared_data, "deu")


def test_the_hub_serves_where_no_file_is(tmp_path, sentiment):
    task = load_task("nusax_senti")
    assert source_of(task, sentiment) is task.data
    assert source_of(task, tmp_path / "empty") is task.hub


# -- a task of the user's --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    rows = [("Enak, murah", "good"), ('Kata "mereka"\nbasi', "bad"), ("", "bad")]
    with (tmp_path / "reviews-jawa.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "stars"), *rows])
    (tmp_path / "reviews.yaml").write_text(REVIEWS, encoding="utf-8")
    return tmp_path


def test_ten_lines_of_yaml_make_a_task(folder):
    task = load_task(str(folder / "reviews.yaml"))
    counts = Counts()
    items = read_items(task, "jav", folder, counts=counts)
    assert (counts.read, counts.dropped) == (3, {"no text": 1})
    assert [(item.id, item.fields, item.label) for item in items] == [
        ("1", {"text": "Enak, murah"}, "good"),
        ("2", {"text": 'Kata "mereka"\nbasi'}, "bad"),
    ]
    assert task.words("mine") == {"good": "bagus", "bad": "jelek"}


def test_files_may_lie_elsewhere_than_the_data_of_other_tasks(folder):
    expected = read_items(reviews(), "jav", folder)
    (folder / "data").mkdir()
    for path in (f"{folder}/reviews-{{name}}.csv", "../reviews-{name}.csv"):
        task = reviews(data={"format": "csv", "path": path})
        assert read_items(task, "jav", folder / "data") == expected
    assert describe_sources(reviews()) == [
        "files under evaluation.data: reviews-{name}.csv; {name} is one of jawa (jav), sunda (sun)"
    ]
    many = load_task("flores_xss")
    assert describe_sources(many)[0].endswith(f" and {len(many.languages) - 12} more")


def test_tsv_and_json_lines_read_the_same_items(folder):
    expected = read_items(reviews(), "jav", folder)[:1]
    (folder / "r.tsv").write_text("review\tstars\nEnak, murah\tgood\n", encoding="utf-8")
    (folder / "bare.tsv").write_text("\ufeffEnak, murah\tgood\r\n", encoding="utf-8")
    (folder / "r.jsonl").write_text(
        json.dumps({"review": "Enak, murah", "stars": "good"}) + "\n\n", encoding="utf-8"
    )
    (folder / "many.csv").write_text('l,review,stars\nx,a,bad\njawa,"Enak, murah",good\n', encoding="utf-8")
    for data in (
        {"format": "tsv", "path": "r.tsv"},
        {"format": "tsv", "path": "bare.tsv", "columns": ["review", "stars"]},
        {"format": "jsonl", "path": "r.jsonl"},
        {"format": "csv", "path": "many.csv", "language_column": "l"},
    ):
        assert read_items(reviews(data=data), "jav", folder) == expected


def test_a_limit_chooses_the_same_items_in_every_language(sentiment):
    task = load_task("nusax_senti")
    chosen = {code: [item.id for item in read_items(task, code, sentiment, 5)] for code in ("ind", "ace", "mad")}
    assert chosen["ind"] == chosen["ace"] == chosen["mad"]
    assert len(chosen["ind"]) == 5
    everything = [item.id for item in read_items(task, "ind", sentiment)]
    assert [id for id in everything if id in chosen["ind"]] == chosen["ind"]
    assert chosen["ind"] != everything[:5]
    assert set(chosen["ind"]) < {item.id for item in read_items(task, "ind", sentiment, 7)}


# -- mistakes in a task file -----------------------------------------------------------------------------


def test_unknown_task_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown task 'nusax'.*Did you mean 'nusax_senti'\?"):
        load_task("nusax")


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml.*\n.*does not exist"):
        load_task(str(tmp_path / "no.yaml"))


def test_a_task_of_instructions_has_few_keys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nkind: instructions\nitem: 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml:\n.*item: unknown key\. Did you mean 'items'\?"):
        load_task(str(path))


def test_a_kind_that_was_renamed_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nkind: past\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml:\n.*unknown kind 'past'\. It is called replay\."):
        load_task(str(path))


def test_label_given_twice(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(REVIEWS.replace("bad: jelek", "good: jelek"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"twice\.yaml:\n.*duplicate key 'good'"):
        load_task(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promts": {}}, "promts: unknown key. Did you mean 'prompts'?"),
        ({"labels": {"good": "sama", "bad": "sama"}}, "labels.bad: the word 'sama' in ind is also that of 'good'"),
        ({"labels": {"good": {"ind": "bagus"}, "bad": {"eng": "bad"}}}, "labels.bad: no word in ind"),
        ({"labels": {"good": "bagus"}}, "labels: "),
        ({"labels": {True: "ya", False: "tidak"}}, "labels: put the label in quotation marks"),
        ({"languages": {"jawaa": "jawa"}}, "languages: 'jawaa' is not a language code"),
        ({"fields": {"text": "review"}}, "fields.label: missing"),
        ({"fields": {"label": "stars"}}, "fields: needs at least one text"),
        ({"data": {"path": "x.csv"}}, "data: needs a format"),
        (
            {"data": {"format": "csw", "path": "x.csv"}},
            "data.format: unknown task source 'csw'. Did you mean 'csv'?",
        ),
        ({"data": {"format": "csv"}}, "data.path: missing"),
        ({"data": {"format": "csv", "path": "x", "header": 1}}, "data.header: unknown key"),
        ({"name": "a/b"}, "name: "),
    ],
)
def test_mistakes_name_their_key(changes, message):
    said = problem(**changes)
    assert "reviews.yaml" in said
    assert message in said


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Bagus atau jelek?", "prompts.mine.prompt: no slot {text}; without it the model never sees"),
        ("{text} {tekst}?", "prompts.mine.prompt: unknown slot {tekst}. Did you mean 'text'?"),
        ("{text}: ", "prompts.mine.prompt: ends with white space"),
        ("{text} {", "prompts.mine.prompt: "),
        ("{text!r}", "prompts.mine.prompt: a slot is a name in braces and nothing else"),
    ],
)
def test_prompts_need_their_slots(prompt, message):
    assert message in problem(prompts={"mine": {"language": "ind", "prompt": prompt}})


def test_braces_in_an_item_are_text(folder):
    task = reviews()
    assert task.prompts["mine"].prompt.format_map({"text": "{label} {0}"}) == "{label} {0}\nBagus atau jelek?"


def test_unknown_prompt():
    with pytest.raises(UnknownNameError, match=r"prompt of task reviews 'min'\. Did you mean 'mine'\?"):
        reviews().choose_prompts(["min"])


# -- mistakes in the data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("review,rating\nx,good\n", "no column 'stars' for fields.label"),
        ("review,stars\nx,good\ny,fine\n", "item '2' (record 2) has the label 'fine'. Available: good, bad"),
        ("review,stars\n", "holds no items"),
        ("", "holds no items"),
        ("review,stars\nx,good\ny\n", "reviews-jawa.csv:3: expected 2 columns (review, stars), found 1"),
        ('review,stars\n"x,good\n', "reviews-jawa.csv:2: not CSV"),
    ],
)
def test_mistakes_in_data_name_file_and_place(folder, content, message):
    (folder / "reviews-jawa.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_items(reviews(), "jav", folder)
    assert message in str(caught.value)
    assert "reviews-jawa.csv" in str(caught.value)


def test_bad_utf8_names_the_line(folder):
    (folder / "reviews-jawa.csv").write_bytes(b"review,stars\nx,good\n\xff\xfe,bad\n")
    with pytest.raises(DataError, match=r"reviews-jawa\.csv:3: not UTF-8"):
        read_items(reviews(), "jav", folder)


def test_ids_are_unique(folder):
    task = reviews(fields={"id": "stars", "text": "review", "label": "stars"})
    with pytest.raises(DataError, match=r"item 'bad' .record 3.*: another item has the same id"):
        read_items(task, "jav", folder)


def test_only_the_name_stands_in_a_path():
    with pytest.raises(ConfigError, match=r"data\.path: .*\{name\}"):
        reviews(data={"format": "csv", "path": "{lang}.csv"})


def test_the_hub_without_network_is_an_error_worth_reading():
    task = reviews(hub={"dataset": "nobody/nothing", "config": "{language}"})
    said = r"nobody/nothing \(jav, test\) cannot be loaded: .*evaluation\.data .* nowhere/reviews-jawa\.csv\."
    with pytest.raises(DataError, match=said):
        read_items(task, "jav", Path("nowhere"))


def test_a_split_that_the_hub_lacks_names_those_it_has(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"review": ["x"], "stars": ["good"]}).to_parquet(tmp_path / "set" / "train.parquet")
    task = reviews(data={"format": "hub", "dataset": str(tmp_path / "set"), "config": "default", "split": "tset"})
    with pytest.raises(DataError, match=r"default, tset\) cannot be loaded: Unknown split \"tset\".*'?train"):
        read_items(task, "jav", tmp_path)
    assert (
        len(read_items(reviews(data={**task.data.options, "format": "hub", "split": "train"}), "jav", tmp_path))
        == 1
    )


def test_the_guides_example_is_a_task(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "your-own-task.md").read_text(encoding="utf-8")
    path = tmp_path / "reviews.yaml"
    path.write_text(guide.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    task = load_task(str(path))
    assert task.words("id-1") == {"good": "bagus", "bad": "jelek"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 10


def test_the_hub_gives_the_columns_and_labels_of_the_files(monkeypatch):
    import datasets

    asked = []
    rows = datasets.Dataset.from_dict(
        {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 0]},
        features=datasets.Features(
            {
                "premise": datasets.Value("string"),
                "hypothesis": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
            }
        ),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **options: asked.append((given, options)) or rows)
    items = read_items(load_task("xnli"), "swa", Path("nowhere"))
    assert asked == [(("facebook/xnli", "sw"), {"split": "test", "revision": None})]
    assert [(item.fields, item.label) for item in items] == [
        ({"premise": "a", "hypothesis": "c"}, "contradiction"),
        ({"premise": "b", "hypothesis": "d"}, "entailment"),
    ]


def test_a_language_without_rows_in_a_file_of_several_is_absent(tmp_path):
    (tmp_path / "all.csv").write_text("lang,review,stars\njawa,Enak,good\n", encoding="utf-8")
    task = reviews(
        data={"format": "csv", "path": "all.csv", "language_column": "lang"},
        languages={"jav": "jawa", "sun": "sunda"},
    )
    assert absent(task, tmp_path, "jav") == ""
    assert absent(task, tmp_path, "sun") == "all.csv has no row with sunda in lang; it has jawa"


# -- translation of what a user has -------------------------------------------------------------------------


def directions(folder, task, known=("eng",), new=("jav",), **evaluation):
    config = build_config(
        {
            "model": {"base": "base"},
            "languages": {"known": [*known], "new": [*new]},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
            "evaluation": {"tasks": [task], "data": str(folder), **evaluation},
        }
    )
    return select_tasks(config).translation


NTREX = """
ref-2.spa ref.afr ref.aze-Latn ref.ckb-Arab ref.eng-GB ref.fra-CA ref.ind ref.sna-Latn ref.snd-Arab
ref.srp-Cyrl ref.srp-Latn ref.tgk-Cyrl ref.zho-CN ref.zho-TW src.eng
"""  # some of the files of github.com/MicrosoftTranslator/NTREX


def test_ntrex_is_read_in_the_layout_of_its_repository(tmp_path):
    (tmp_path / "NTREX-128").mkdir()
    for name in NTREX.split():
        lines = f"{name} satu\n{name} dua\n"
        (tmp_path / "NTREX-128" / f"newstest2019-{name}.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "LANGUAGES.tsv").write_text("afr Afrikaans\n")
    new = ("srp", "srp_Latn", "zho_Hant", "sna", "jav")
    found = {each.name: each for each in directions(tmp_path, "ntrex_translation", ("eng", "ind"), new)}
    assert {each.language for each in found.values()} == {
        "ind",
        "srp",
        "srp_Latn",
        "zho_Hant",
        "sna",
    }  # no Javanese
    way = found["ntrex_translation.eng-srp_Latn.jsonl"]
    assert (way.items, way.texts[1], way.references[1]) == (["1", "2"], "src.eng dua", "ref.srp-Latn dua")
    assert found["ntrex_translation.zho_Hant-eng.jsonl"].texts[0] == "ref.zho-TW satu"
    files = {f"newstest2019-{name}" for name in load_task("ntrex_translation").languages.values()}
    assert files >= {f"newstest2019-{name}" for name in NTREX.split()} - {
        f"newstest2019-{name}" for name in ("ref-2.spa", "ref.eng-GB", "ref.fra-CA")
    }


def test_tatoebas_export_is_a_translation_task(tmp_path):
    (tmp_path / "tatoeba").mkdir()
    sentences = "1\teng\tHello.\n2\tjav\tHalo.\n3\teng\tGood.\n4\tjav\tApik.\n5\tind\tBaik.\n6\tjav\tSae.\n"
    (tmp_path / "tatoeba" / "sentences.csv").write_text(sentences, encoding="utf-8")
    (tmp_path / "tatoeba" / "links.csv").write_text("1\t2\n2\t1\n3\t4\n3\t6\n3\t5\n")
    found = directions(tmp_path, "tatoeba_translation", ("eng", "ind"), ("jav", "sun"))
    by_name = {each.name.removeprefix("tatoeba_translation."): each for each in found}
    assert list(by_name) == ["eng-ind.jsonl", "ind-eng.jsonl", "eng-jav.jsonl", "jav-eng.jsonl"]
    way = by_name["eng-jav.jsonl"]
    assert way.items == ["1-2", "3-4", "3-6"]
    assert way.texts == ["Hello.", "Good.", "Good."]
    assert way.references == ["Halo.", "Apik.", "Sae."]
    assert by_name["jav-eng.jsonl"].references == way.texts
    few = directions(tmp_path, "tatoeba_translation", ("eng", "ind"), ("jav",), items=2, languages=["jav"])
    assert [len(each.items) for each in few] == [2, 2]
    with pytest.raises(DataError, match=r"sun, requested by evaluation\.languages"):
        directions(tmp_path, "tatoeba_translation", ("eng",), ("sun",), languages=["sun"])


def test_a_translation_task_reads_any_format_of_corpora(tmp_path):
    (tmp_path / "mine.tsv").write_text("key\teng\tjav\nb\tTwo\tLoro\na\tOne\tSiji\nc\t\tTelu\n", encoding="utf-8")
    task = {
        "name": "mine",
        "kind": "translation",
        "corpus": {"format": "tsv", "path": "mine.tsv", "id": "key"},
        "pivot": "eng",
        "languages": ["eng", "jav"],
        "prompts": {"p": {"language": "eng", "prompt": "{text} {target}"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
    [there, back] = directions(tmp_path, str(tmp_path / "mine.yaml"))
    assert (there.items, there.texts, there.references) == (["b", "a"], ["Two", "One"], ["Loro", "Siji"])
    assert back.texts == ["Loro", "Siji"]
    for keys, key in (
        ({"path": "x-{name}.txt"}, "path: give either"),
        ({"corpus": {"format": "tvs", "path": "x"}}, r"corpus\.format: .*tsv"),
        ({"corpus": {"format": "tsv", "file": "x"}}, r"corpus\.file"),
    ):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**task, **keys}))
        with pytest.raises(ConfigError, match=key):
            load_task(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({k: v for k, v in task.items() if k != "corpus"}))
    with pytest.raises(ConfigError, match="path: give either"):
        load_task(str(tmp_path / "mine.yaml"))


# -- what is shown must not be tested ------------------------------------------------------------------------


SEEN = {
    "name": "seen",
    "data": {"format": "tsv", "path": "test.tsv"},
    "fields": {"text": "text", "label": "label"},
    "languages": ["jav"],
    "labels": {"a": "good", "b": "bad"},
    "prompts": {"p": {"language": "eng", "prompt": "{text}"}},
}


@pytest.mark.parametrize("key", ["examples", "validation"])
def test_items_that_are_tested_are_neither_shown_nor_chosen_by(tmp_path, key):
    path = tmp_path / "seen.yaml"
    path.write_text(yaml.safe_dump({**SEEN, key: SEEN["data"]}))
    with pytest.raises(ConfigError, match=f"{key}: the same as data"):
        load_task(str(path))


def test_examples_that_are_test_items_are_left_out_and_said(tmp_path, caplog):
    (tmp_path / "test.tsv").write_text("text\tlabel\nsatu\ta\ndua\tb\n")
    (tmp_path / "dev.tsv").write_text("text\tlabel\ndua\tb\ntiga\ta\nsatu\ta\nempat\tb\n")
    path = tmp_path / "seen.yaml"
    path.write_text(yaml.safe_dump({**SEEN, "examples": {"format": "tsv", "path": "dev.tsv"}}))

    def shown(shots):
        config = build_config(
            {
                "model": {"base": "base"},
                "languages": {"known": ["eng"], "new": ["jav"]},
                "corpora": [{"format": "toy"}],
                "training": {"steps": 1},
                "evaluation": {"tasks": [str(path)], "data": str(tmp_path), "shots": shots},
            }
        )
        return {item.fields["text"] for item in select_tasks(config).classification[0].examples["jav"]}

    assert shown(2) == {"tiga", "empat"}
    assert "2 of 4 examples are test items" in caplog.text
    with pytest.raises(DataError, match=r"jav has 2 items .*; evaluation\.shots is 3"):
        shown(3)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"data": {"format": "tsv", "path": "{lang}.tsv"}}, r"data\.path: .*\{lang\}"),
        ({"hub": {"dataset": "x/{name}"}}, r"hub\.dataset: .*\{name\}"),
        ({"hub": {"dataset": "x/y", "config": "{code}"}}, r"hub\.config: .*\{code\}.*\{name\} and \{language\}"),
        ({"hub": {"dataset": "x/y", "data_files": "{lang}/*"}}, r"hub\.data_files: .*\{lang\}"),
        ({"hub": {"dataset": "x/y", "split": "{language}"}}, r"hub\.split: .*\{language\}"),
        ({"examples": {"format": "tsv", "path": "{}.tsv"}}, r"examples\.path: .*\{\}"),
        ({"hub_examples": {"dataset": "x/y", "config": "{lang}"}}, r"hub_examples\.config: .*\{lang\}"),
    ],
)
def test_braces_where_nothing_is_put_in_their_place_are_refused(tmp_path, keys, problem):
    (tmp_path / "seen.yaml").write_text(yaml.safe_dump({**SEEN, **keys}))
    with pytest.raises(ConfigError, match=problem):
        load_task(str(tmp_path / "seen.yaml"))


@pytest.mark.parametrize("kind", ["text", "translation"])
def test_braces_are_checked_in_tasks_on_lines_of_text_too(tmp_path, kind):
    task = {"name": "lines", "kind": kind, "path": "{code}.txt", "languages": ["eng", "jav"]}
    if kind == "translation":
        task |= {"pivot": "eng", "prompts": {"p": {"language": "eng", "prompt": "{text} {target}"}}}
    (tmp_path / "lines.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(ConfigError, match=r"path: .*\{code\}.*\{name\}"):
        load_task(str(tmp_path / "lines.yaml"))


def test_an_empty_part_of_a_text_leaves_no_line(tmp_path):
    (tmp_path / "test.tsv").write_text("title\ttext\tlabel\n\tsatu\ta\nJudul\tdua\tb\n")
    task = build_task({**SEEN, "fields": {"text": ["title", "text"], "label": "label"}}, "seen.yaml")
    assert [item.fields["text"] for item in read_items(task, "jav", tmp_path)] == ["satu", "Judul\ndua"]
