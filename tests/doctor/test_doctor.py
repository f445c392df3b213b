"""A project in which all is well, and the same with one thing wrong at a time."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from healthy import sentences, write_corpus, write_items, write_task

from instructalign.cli import main
from instructalign.config import Config, ReplayConfig
from instructalign.data import ItemText
from instructalign.doctor import Diagnosis, examine
from instructalign.doctor.check_contamination import examine_contamination
from instructalign.errors import ConfigError
from instructalign.mixture import ReplayBuffer
from instructalign.types import Counts, Instruction
from tiny import save_tiny, tiny_tokenizer

Configure = Callable[..., Config]


def look(config: Config) -> Diagnosis:
    return examine(config, sample=200)


def finding_with(diagnosis: Diagnosis, word: str) -> tuple[str, str, str]:
    """The one finding that contains a word: its level, section and advice."""
    found = [each for each in diagnosis.findings if word in each.found]
    assert len(found) == 1, [each.found for each in diagnosis.findings]
    return found[0].level, found[0].about, found[0].advice


def test_all_is_well(configure: Configure, tmp_path: Path) -> None:
    diagnosis = look(configure())
    assert [each for each in diagnosis.findings if each.level != "ok"] == []
    assert diagnosis.verdict == "ready to train"
    assert diagnosis.corpus is not None
    assert (diagnosis.corpus.read, diagnosis.corpus.train, diagnosis.corpus.heldout) == (576, 556, 20)
    assert diagnosis.corpus.sentences == {"eng": 556, "jav": 556}
    assert diagnosis.corpus.pairs == {"eng-jav": 556}
    assert [each.about for each in diagnosis.findings] == [
        *("corpora", "tokenizer", "lengths", "mixture", "contamination", "tasks", "costs")
    ]
    assert json.loads(json.dumps(diagnosis.to_dict()))["verdict"] == "ready to train"


def test_nothing_is_written(configure: Configure, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    held_out = "evaluation.tasks=[reviews.yaml, heldout_instructions, past_instructions]"
    look(configure("filter.rejects=rejects.jsonl", "filter.preset=strict", "replay.heldout=10", held_out))
    assert sorted(tmp_path.rglob("*")) == before


def test_every_missing_file_is_named(configure: Configure) -> None:
    lost = "{format: tsv, path: lost.tsv, columns: {eng: English, jav: Javanese}}"
    gone = "{format: tsv, path: gone.tsv, columns: {eng: English, jav: Javanese}}"
    diagnosis = look(
        configure(f"corpora=[{lost}, {gone}]", "replay.source.path=away.jsonl", "model.base=./nowhere")
    )
    assert finding_with(diagnosis, "lost.tsv does not exist") == (
        "problem",
        "corpora",
        "Fix the file given in corpora.0 (counted from 0).",
    )
    assert (
        finding_with(diagnosis, "gone.tsv does not exist")[2]
        == "Fix the file given in corpora.1 (counted from 0)."
    )
    assert finding_with(diagnosis, "away.jsonl does not exist") == ("problem", "mixture", "Change replay.source.")
    assert finding_with(diagnosis, "nowhere does not exist")[:2] == ("problem", "model")
    assert diagnosis.verdict == "4 problems, 0 warnings"
    assert diagnosis.tasks[0].items == {"eng": 8, "jav": 8, "mad": 8}
    assert (diagnosis.corpus, diagnosis.lengths, diagnosis.mixture, diagnosis.costs) == (None, None, None, None)


def test_a_new_language_without_text(configure: Configure) -> None:
    diagnosis = look(configure("languages.new=[jav, sun]", "languages.related=[]"))
    assert finding_with(diagnosis, "no corpus has text in sun")[:2] == ("problem", "corpora")


def test_more_held_out_than_there_is(configure: Configure) -> None:
    assert (
        finding_with(look(configure("instructions.heldout=600")), "600 sentences are to be held out")[0]
        == "problem"
    )
    level, _, advice = finding_with(look(configure("instructions.heldout=150")), "26 % of the rows are held out")
    assert (level, advice) == ("warning", "Lower instructions.heldout (150), or add a corpus.")


def test_few_rows_many_dropped_some_damaged(configure: Configure, tmp_path: Path) -> None:
    rows = sentences()[:200]
    write_corpus(tmp_path, rows + rows[:100] + [(one, "12345 67890") for one, _ in rows[100:120]])
    diagnosis = examine(configure("instructions.heldout=0"), sample=500)
    assert diagnosis.corpus is not None
    assert diagnosis.corpus.dropped == {"duplicates": 100}
    assert "filter.rejects" in finding_with(diagnosis, "31 % of the rows read are dropped: 100 duplicates")[2]
    level, _, advice = finding_with(diagnosis, "(alphabetic 5 %)")
    assert (level, advice.startswith("Set filter.preset to standard")) == ("warning", True)
    assert finding_with(diagnosis, "jav 220")[0] == "warning"


def test_placeholders_are_named(configure: Configure, tmp_path: Path) -> None:
    rows = [*sentences()[:200], *[("Yes.", "Ya.")] * 200]
    write_corpus(tmp_path, rows + [(one, "<range>") for one, _ in sentences()[200:230]])
    for preset, named in (("basic", True), ("standard", False)):
        diagnosis = look(configure("instructions.heldout=0", f"filter.preset={preset}"))
        found = [each for each in diagnosis.findings if "missing translations" in each.found]
        assert [each.level for each in found] == ["warning"] * named
        assert all("30 of the 430 texts in jav" in each.found and "'<range>'." in each.found for each in found)
        assert all("filter.preset" in each.advice for each in found)


def test_test_items_in_the_training_data(configure: Configure, tmp_path: Path) -> None:
    write_corpus(
        tmp_path, [*sentences(), ("JAV sample 3!", "contoh kaping telu"), ("x mad sample 5 y z", "liyane")]
    )
    diagnosis = look(configure("instructions.heldout=0"))
    level, about, advice = finding_with(diagnosis, "reviews (jav) 12 %")
    assert (level, about) == ("problem", "contamination")
    assert "Set contamination to drop" in advice
    assert diagnosis.contamination is not None
    [found] = diagnosis.contamination.test_sets
    assert (found.size, found.items, found.exact) == (8, 1, 1)
    assert found.examples == ({"row": "corpus/578", "item": "3", "how": "exact", "text": "jav sample 3"},)


def test_test_items_in_the_replay(configure: Configure, tmp_path: Path) -> None:
    item = "this is the longer text of a test item in English"
    write_items(tmp_path, "eng", [item, *(f"eng {number}" for number in range(40))])
    with (tmp_path / "past.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"inputs": f"Good or bad? {item}", "targets": "good"}) + "\n")
    level, _, advice = finding_with(look(configure("replay.size=101")), "reviews (eng) 2 %")
    assert (level, "change replay.source" in advice) == ("warning", True)


def test_dropped_test_items_are_out_of_the_instruction_data_that_is_examined() -> None:
    item = "this is the longer text of a test item in English"
    examples = [
        Instruction(text, "yes", "instruction_data", row=str(n)) for n, text in enumerate(["is it?", item])
    ]
    taught = ReplayBuffer(examples, {"mine": Counts(2, 2)}, [("mine", "")] * 2)
    texts = [ItemText("reviews", "1", "eng", item)]
    _, _, kept, part, _ = examine_contamination(None, None, texts, "drop", taught=taught)
    assert part.dropped == 1
    assert kept is not None
    assert [each.prompt for each in kept.examples] == ["is it?"]


def test_items_known_by_their_ids_alone(configure: Configure, tmp_path: Path) -> None:
    lines = "".join(f"{number},jav text {number},good\n" for number in range(1, 8))
    (tmp_path / "reviews-jav.csv").write_text(f"id,text,label\n{lines}s-9,jav text,good\n", encoding="utf-8")
    rows = "".join(f"s-{number}\t{one}\t{other}\n" for number, (one, other) in enumerate(sentences()))
    (tmp_path / "corpus.tsv").write_text(f"id\tEnglish\tJavanese\n{rows}", encoding="utf-8")
    corpus = "[{format: tsv, path: corpus.tsv, id: id, columns: {eng: English, jav: Javanese}}]"
    diagnosis = look(configure(f"corpora={corpus}", "instructions.heldout=0"))
    assert finding_with(diagnosis, "have the ids of test items: reviews (jav) 1.")[0] == "warning"


def test_languages_that_no_task_has(configure: Configure, tmp_path: Path) -> None:
    write_task(tmp_path, ["eng", "mad"])
    diagnosis = look(configure())
    level, about, advice = finding_with(diagnosis, "No task has items in a new language (jav)")
    assert (level, about) == ("warning", "tasks")
    assert "evaluation.tasks" in advice
    assert diagnosis.tasks[0].lacking == ("jav",)


def test_a_language_whose_data_is_missing(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "reviews-mad.csv").unlink()
    diagnosis = look(configure())
    assert finding_with(diagnosis, "reviews is left out in mad: ")[2].startswith(
        "Put the files under evaluation.data"
    )
    assert finding_with(diagnosis, "No text to try")[1] == "tokenizer"
    assert diagnosis.verdict == "ready to train (2 warnings)"


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("evaluation.tasks=[reviews.yaml, nusax_sent]", "Did you mean 'nusax_senti'?"),
        ("evaluation.prompts=[en-7]", "unknown prompt of task reviews 'en-7'"),
        ("evaluation.languages=[jav, sun]", "evaluation.languages names sun, which no task has."),
        ("evaluation.languages=[sun]", "evaluation.languages: sun is in none of the tasks"),
        ("instructions.templates=[engl]", "unknown template set 'engl'"),
    ],
)
def test_names_that_do_not_exist(configure: Configure, override: str, word: str) -> None:
    level, about, _ = finding_with(look(configure(override)), word)
    assert level == "problem"
    assert about in ("tasks", "mixture")


def test_a_prompt_language_without_words_for_the_labels(configure: Configure, tmp_path: Path) -> None:
    write_task(tmp_path, ["eng", "jav", "mad"], labels={"good": {"ind": "baik"}, "bad": {"ind": "buruk"}})
    assert finding_with(look(configure()), "labels.bad: no word in eng")[0] == "problem"


def test_prompts_in_a_language_that_is_not_known(configure: Configure, tmp_path: Path) -> None:
    prompts = {"id-1": {"language": "ind", "prompt": "{text}\nBaik atau buruk?"}}
    write_task(tmp_path, ["eng", "jav", "mad"], prompts=prompts)
    diagnosis = look(configure("instructions.templates=[eng, ind]"))
    level, _, advice = finding_with(
        diagnosis, "Prompts are in ind, which is not among the known languages: reviews/id-1."
    )
    assert (level, "evaluation.prompts" in advice) == ("warning", True)
    assert "instructions.templates" in finding_with(diagnosis, "Instructions are worded in ind")[2]


def test_held_out_instructions_are_checked(configure: Configure) -> None:
    part = look(configure("evaluation.tasks=[reviews.yaml, heldout_instructions]")).tasks[1]
    assert (part.task, part.prompts) == ("heldout_instructions", {})
    assert part.items.keys() == {"jav"}
    none = look(configure("evaluation.tasks=[heldout_instructions]", "instructions.heldout=0"))
    assert finding_with(none, "Set instructions.heldout to at least 2")[:2] == ("problem", "tasks")


def test_past_instructions_are_checked(configure: Configure) -> None:
    tasks = "evaluation.tasks=[past_instructions]"
    part = look(configure(tasks, "replay.heldout=5", "replay.size=15")).tasks[0]
    assert (part.task, part.items) == ("past_instructions", {"eng": 5})
    none = look(configure(tasks))
    assert finding_with(none, "Set replay.heldout to at least 2")[:2] == ("problem", "tasks")
    many = look(configure(tasks, "replay.heldout=101"))
    assert finding_with(many, "takes 101 different examples of the replay source jsonl")[0] == "problem"


def test_nothing_to_evaluate(configure: Configure) -> None:
    assert finding_with(look(configure("evaluation.tasks=[]")), "Nothing is evaluated.")[0] == "warning"


def call(*arguments: str) -> tuple[int, str, str]:
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    code = 0
    try:
        sys.argv = ["instructalign", *arguments]
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue()


def test_the_command(configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(configure().to_yaml(), encoding="utf-8")
    code, out, _ = call("doctor", str(path))
    assert code == 0
    for word in ("language", "replay", "reviews", "memory: about", "ready to train"):
        assert word in out
    assert out.rstrip().endswith("ready to train")
    shutil.rmtree(tmp_path / "reviews.yaml", ignore_errors=True)
    code, out, err = call("doctor", str(path), "--json", "--set", "training.max_length=8")
    found = json.loads(out)
    assert code == 1, err
    assert found["ready"] is False
    assert found["lengths"]["max_length"] == 8
    assert any("training.max_length" in each["advice"] for each in found["findings"])
    code, _, err = call("doctor", str(path), "--set", "training.stepz=1")
    assert (code, "Did you mean 'steps'?" in err) == (2, True)


def test_of_a_streamed_replay_source_only_the_beginning_is_read(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def load(config: ReplayConfig, seed: int, *more: object, **others: object) -> ReplayBuffer:
        asked.append(config.sources[0].options["scan"])
        return ReplayBuffer()

    monkeypatch.setattr("instructalign.doctor.diagnosis.load_replay", load)
    source = "replay.source={{format: hub, name: xP3, scan: {}}}"
    for scan, size in (("null", 100), ("2000000", 20_000), ("50", 100)):
        look(configure(source.format(scan), f"replay.size={size}", "evaluation.tasks=[]"))
    assert asked == [20_000, 40_000, 50]


def test_a_translation_task(configure: Configure, tmp_path: Path) -> None:
    folder = tmp_path / "flores200" / "devtest"
    folder.mkdir(parents=True)
    for name, sentence in (("eng_Latn", "the first one of these"), ("jav_Latn", "sing kapisan saka iki")):
        (folder / f"{name}.devtest").write_text(f"{sentence}\nab {name}\n", encoding="utf-8")
    write_corpus(tmp_path, [*sentences(), ("another", "Sing kapisan, saka iki!")])
    tasks = "evaluation.tasks=[flores_translation, reviews.yaml]"
    diagnosis = look(configure(tasks, "evaluation.prompts=[en-1]", "instructions.heldout=0"))
    translation = diagnosis.tasks[0]
    assert (translation.task, translation.prompts) == ("flores_translation", {"en-1": "eng"})
    assert translation.items == {"eng": 2, "jav": 2}
    assert finding_with(diagnosis, "flores_translation (jav) 50 %")[0] == "problem"


def test_chat_models_and_adapters_are_checked_as_they_are_trained(configure: Configure, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "chat", "qwen2")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokenizer.save_pretrained(base)
    plain, chat = (
        look(configure(f"model.base={base}", "model.adapter={r: 2}", f"model.chat={chat}"))
        for chat in ("never", "auto")
    )
    assert plain.lengths is not None
    assert chat.lengths is not None
    # `<user>` and `<assistant>`, of one to six and eleven tokens.
    longer = chat.lengths.by_objective[0].median - plain.lengths.by_objective[0].median
    assert 2 <= longer <= 17
    assert chat.costs is not None
    assert 0 < chat.costs.trained < chat.costs.parameters
    assert chat.costs.seconds is not None


def test_a_package_that_a_tokenizer_needs(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(_: object) -> None:
        raise ImportError("this one needs\n sentencepiece")

    monkeypatch.setattr("instructalign.doctor.diagnosis.load_codec", needs)
    level, about, _ = finding_with(look(configure()), "needs a package: this one needs sentencepiece")
    assert (level, about) == ("problem", "model")


def test_how_files_are_read_is_told(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["English\tJavanese", *(f'"He said ""{one}"""\t"{other}, ya"' for one, other in sentences())]
    (tmp_path / "corpus.tsv").write_bytes(gzip.compress("\n".join(rows).encode()))
    diagnosis = look(configure())
    level, about, advice = finding_with(diagnosis, "corpus.tsv: fields are in quotation marks")
    assert (level, about) == ("warning", "files")
    assert "quoting: true" in advice
    assert finding_with(diagnosis, "corpus.tsv: gzip data") == ("ok", "files", "")
    assert not caplog.text
    corpora = "corpora=[{format: tsv, path: corpus.tsv, quoting: true, columns: {eng: English, jav: Javanese}}]"
    assert "quotation marks" not in str(look(configure(corpora)).findings)


def test_each_stage_is_looked_at_as_the_run_that_it_is(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "sun.txt").write_text("".join(f"kalimah nu ka {n}.\n" for n in range(400)), encoding="utf-8")
    columns = "columns: {eng: English, jav: Javanese}, languages: [eng, jav]"
    pairs = f"{{format: tsv, path: {tmp_path}/corpus.tsv, {columns}}}"
    text = f"{{format: text, path: {tmp_path}/sun.txt, languages: [sun]}}"
    settings = ["languages.new=[jav, sun]", "stages=[[jav], [sun]]", f"corpora=[{pairs}, {text}]"]
    with pytest.raises(ConfigError, match=r"stages\.0 \(jav\): .*lm takes monolingual text"):
        configure(*settings, "instructions.objectives={mt: 1, lm: 1}")  # `validate` finds it
    whole = look(configure(*settings, "instructions.objectives={mlm: 1}"))
    assert [each.found for each in whole.findings if each.level == "problem"] == []
