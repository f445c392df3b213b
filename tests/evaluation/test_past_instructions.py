"""Held-out replay examples as a task: against plain transformers, and from end to end."""

from __future__ import annotations

import json
import math

import pytest
import torch

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation import evaluate, load_task
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.perplexity import sample_of_answers
from instructalign.evaluation.predictions import AnswerLikelihood, read_records
from instructalign.evaluation.run_comparison import over_seeds
from instructalign.evaluation.score_table import ScoreTable
from instructalign.evaluation.task_selection import plan_heldout
from instructalign.mixture.training_data import prepare_data
from instructalign.pipeline import check_config, run
from instructalign.report import write_report
from instructalign.types import Score

TASK = "past_instructions"


def past(count=120):
    """Questions in English and Indonesian, and in languages that are not among the known ones, or not named."""
    codes = ["en", "eng_Latn", "id", "jav", "", "no language"]
    return [
        {
            "inputs": f"what is {n} plus {n}?",
            "targets": f"it is {2 * n}",
            "task": ["sums", "sums", "more sums"][n // 6 % 3] if n >= 6 else "rare",
            "lang": codes[n % 6],
        }
        for n in range(count)
    ]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "corpus.tsv").write_text(
        "eng\tjav\n" + "".join(f"the food {n}\tpangan {n}\n" for n in range(8)), encoding="utf-8"
    )
    lines = [json.dumps(line) + "\n" for line in past()]
    (tmp_path / "past.jsonl").write_text("".join(lines), encoding="utf-8")

    def make(base="x", heldout=90, size=20, evaluation=None, **training):
        source = {"format": "jsonl", "path": "past.jsonl"}
        return build_config(
            {
                "model": {"base": str(base)},
                "languages": {"known": ["eng", "ind"], "new": ["jav"]},
                "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "eng", "jav": "jav"}}],
                "instructions": {"heldout": 2, "pivots": ["eng"]},
                "replay": {"source": source, "size": size, "heldout": heldout},
                "training": {"steps": 2, "batch_size": 4, "max_length": 200, "report_to": [], **training},
                "evaluation": {"tasks": [TASK], "bootstrap": 30, **(evaluation or {})},
            },
            folder=tmp_path,
        )

    return make


def values_of(scores):
    return {(s.task, s.metric, s.language or s.group): s.value for s in scores}


def log_likelihood(loaded, prompt, answer):
    """Sum over the answer's tokens and the end of the text, by the model's own forward pass, and their number."""
    prompt, answer = loaded.codec.pair(prompt, answer)
    answer = [*answer, loaded.tokenizer.eos_token_id]
    with torch.no_grad():
        if loaded.encoder_decoder:
            # The loss of transformers is the mean over the labels.
            out = loaded.model(torch.tensor([prompt]), labels=torch.tensor([answer]))
        else:
            labels = torch.tensor([[-100] * len(prompt) + answer])
            out = loaded.model(torch.tensor([[*prompt, *answer]]), labels=labels)
    return -out.loss.item() * len(answer), len(answer)


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_scores_are_the_loss_of_transformers(model_folder, loaded_model, config, tmp_path, family):
    settings = config(model_folder(family))
    scores = values_of(evaluate(model_folder(family), settings, tmp_path / "out", run="base"))
    lines = {line["inputs"]: line for line in past()}
    sums = {}
    for code, some in plan_heldout(settings, load_task(TASK))[0].instructions.items():
        answers = read_records(tmp_path / "out" / "instructions" / f"{TASK}.{code}.jsonl", AnswerLikelihood)
        assert [each.prompt for each in answers] == [made.prompt for _, made in some]
        for each in answers:
            line = lines[each.prompt]
            assert code == ("ind" if line["lang"] == "id" else "eng")
            assert (each.answer, each.part) == (line["targets"], line["task"])
            expected, tokens = log_likelihood(loaded_model(family), line["inputs"], line["targets"])
            assert (each.score, each.tokens) == (pytest.approx(expected, abs=2e-4), tokens)
            for part in (TASK, f"{TASK}-{line['task']}"):
                total = sums.setdefault((part, code), [0.0, 0, 0])
                sums[part, code] = [total[0] + expected, total[1] + tokens, total[2] + 1]
    assert sum(items for (part, _), (_, _, items) in sums.items() if part == TASK) == 90
    for (part, code), (total, tokens, items) in sums.items():
        value = scores.get((part, "token_probability", code))
        if part == TASK or items >= 20:
            assert value == pytest.approx(math.exp(total / tokens), rel=1e-5)
        else:
            assert value is None  # a part of fewer than 20 counts with the others alone
    assert scores[TASK, "token_probability", "L1"] == pytest.approx(
        sum(scores[TASK, "token_probability", code] for code in ("eng", "ind")) / 2
    )
    assert {part for part, _, _ in scores} == {TASK, f"{TASK}-sums", f"{TASK}-more sums"}


def test_one_part_is_not_shown_twice(model_folder, config, tmp_path):
    lines = [json.dumps({**line, "task": "sums"}) + "\n" for line in past()]
    (tmp_path / "past.jsonl").write_text("".join(lines), encoding="utf-8")
    scores = evaluate(model_folder("llama"), config(model_folder("llama")), tmp_path / "out", run="base")
    assert {score.task for score in scores} == {TASK}


def test_limits_take_the_beginning_and_languages_are_chosen(config):
    whole = plan_heldout(config(), load_task(TASK))[0].instructions
    assert sum(map(len, whole.values())) == 90
    few = plan_heldout(config(evaluation={"items": 9, "languages": ["eng"]}), load_task(TASK))[0].instructions
    assert few == {"eng": whole["eng"][:9]}
    assert plan_heldout(config(evaluation={"languages": ["jav"]}), load_task(TASK)) == []


def test_what_is_asked_is_never_replayed_and_the_same_whatever_is(config):
    exam = plan_heldout(config(), load_task(TASK))[0]
    asked = {made.prompt for _, _, made in exam.questions()}
    for size in (0, 5, 30):
        settings = config(size=size)
        assert plan_heldout(settings, load_task(TASK))[0] == exam
        buffer = prepare_data(settings).replay
        assert len(buffer) == size
        assert asked.isdisjoint({each.prompt for each in buffer.examples})
    assert len(asked) == 90


@pytest.mark.parametrize(
    ("heldout", "have"),
    [
        (0, "replay.heldout is 0"),
        (1, "replay.heldout is 1"),
        (None, "there is no replay block"),
    ],
)
def test_without_past_examples_there_is_nothing_to_ask(config, heldout, have):
    settings = config(heldout=heldout or 0)
    if heldout is None:
        settings = settings.model_copy(update={"replay": None})
    with pytest.raises(DataError, match=rf"{have}\. Set replay\.heldout to at least 2, better 300"):
        plan_heldout(settings, load_task(TASK))
    with pytest.raises(ConfigError, match=rf"evaluation\.tasks: past_instructions .*{have}"):
        check_config(settings)


def test_languages_that_no_past_example_can_have(model_folder, config, tmp_path):
    settings = config(model_folder("llama"), evaluation={"languages": ["jav"]})
    with pytest.raises(DataError, match=r"evaluation\.languages: jav is in none of the tasks"):
        evaluate(model_folder("llama"), settings, tmp_path / "out", run="base")


def test_runs_with_and_without_replay_say_what_each_forgot(model_folder, config, tmp_path):
    folders = []
    for size in (0, 20):
        folder = tmp_path / f"replay-{size}"
        done = run(config(model_folder("llama"), size=size, learning_rate=0.05), folder)
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))["replay"]
        assert (record["heldout"], record["chosen"], record["dropped"]) == (90, size, {"held out": 90})
        rows = {(row.task, row.metric, row.run): row for row in done.report.rows if not row.language}
        lost = rows[TASK, "forgetting", folder.name]
        before, after = (rows[TASK, "token_probability", name].value for name in ("base", folder.name))
        assert lost.value == pytest.approx(before - after, abs=1e-9)
        assert lost.low <= lost.value <= lost.high
        assert abs(lost.value) > 1e-4
        page = done.report.html.read_text(encoding="utf-8")
        assert TASK in page
        assert f"{TASK}-sums" in page
        folders.append(folder)
    both = write_report(folders, tmp_path / "both").rows
    lost = {row.run for row in both if (row.task, row.metric) == (TASK, "forgetting")}
    assert lost == {"replay-0", "replay-20"}


def test_seeds_ask_the_same_and_are_put_together(model_folder, config, tmp_path):
    folders = []
    for seed in (1, 2):
        settings = config(model_folder("llama"), learning_rate=0.05).model_copy(update={"seed": seed})
        folders.append(run(settings, tmp_path / f"seed-{seed}").folder)
    asked = [(folder / f"evaluation/base/instructions/{TASK}.eng.jsonl").read_bytes() for folder in folders]
    assert asked[0] == asked[1]
    report = write_report(folders, tmp_path / "both")
    assert "were not averaged" not in report.html.read_text(encoding="utf-8")
    lost = {
        row.run: row for row in report.rows if (row.task, row.metric, row.language) == (TASK, "forgetting", "")
    }
    whole = lost.pop("seed-1–2" if "seed-1–2" in lost else next(run for run in lost if "seeds" in run))
    assert whole.value == pytest.approx(sum(row.value for row in lost.values()) / 2)
    assert whole.low <= whole.value <= whole.high


def test_open_questions_that_seeds_do_not_share_are_not_averaged():
    def model(name, items):
        answers = [AnswerLikelihood("open", "jav", item, "q", "a", -1.0, 2) for item in items]
        scores = ScoreTable([Score(name, "open", "jav", "L2", "token_probability", 0.6)])
        return ModelResults(name, scores, answers={"open": {"jav": sample_of_answers(answers)}})

    for items, rows in ((["1", "2"], 4), (["1", "3"], 0)):
        models = [model("one", ["1", "2"]), model("other", items)]
        samples = [each.samples() for each in models]
        assert len(over_seeds("both", (1, 2), "open", models, samples, [], Bootstrap(10, 0))) == rows
