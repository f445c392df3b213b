"""Replay data in the forms that people have: told by their fields, never mixed up, every answer trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from instructalign.config import Entry, ModelConfig, ReplayConfig
from instructalign.errors import DataError
from instructalign.mixture.conversations import conversation_of, flaw_of, form_of
from instructalign.mixture.replay_buffer import load_replay
from instructalign.mixture.replay_sources import ReplayRequest, read_jsonl_examples
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import load_codec
from instructalign.types import Instruction
from tiny import save_tiny, tiny_tokenizer

ASKED = [("user", "What is it?"), ("assistant", "A house."), ("user", "Is it old?"), ("assistant", "Yes, it is.")]
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}<{{ m.role }}>{{ m.content }}</s>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


def messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def read(
    folder: Path, records: list[Any], request: ReplayRequest | None = None, **options: Any
) -> list[Instruction]:
    path = folder / "past.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(read_jsonl_examples(request, path=path, **options))


ONE = ("What is it?", "A house.")
SINGLE: dict[str, dict[str, Any]] = {
    "P3": {"inputs": ONE[0], "targets": ONE[1]},
    "messages": {"messages": messages(ASKED[:2])},
    "conversations, role": {"conversations": messages(ASKED[:2])},
    "ShareGPT": {"conversations": [{"from": NAMES[role], "value": text} for role, text in ASKED[:2]]},
    "parts": {"messages": [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in ASKED[:2]]},
    "Alpaca": {"instruction": ONE[0], "input": "", "output": ONE[1]},
    "completion": {"prompt": ONE[0], "completion": ONE[1]},
    "completion, turns": {"prompt": messages(ASKED[:1]), "completion": messages(ASKED[1:2])},
    "preference": {"prompt": ONE[0], "chosen": ONE[1], "rejected": "No."},
    "turns with text": {"messages": [{"role": role, "text": text} for role, text in ASKED[:2]]},
    "input and output": {"input": ONE[0], "output": ONE[1]},
    "question and answer": {"question": ONE[0], "answer": ONE[1]},
    "Alpaca, no input": {"instruction": ONE[0], "input": "<noinput>", "output": ONE[1]},
    "chosen turns": {"chosen": messages(ASKED[:2]), "rejected": messages(ASKED[:1])},
    "preference, turns": {"prompt": ONE[0], "chosen": messages(ASKED[:2]), "rejected": messages(ASKED[:1])},
}


@pytest.mark.parametrize("form", SINGLE)
def test_a_question_and_its_answer_are_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, [{**SINGLE[form], "lang": "en", "task": "qa"}])
    assert example == Instruction(*ONE, "replay", target="en", row="past.jsonl:1", template="qa")


def test_alpacas_input_belongs_to_the_question(tmp_path: Path) -> None:
    record = {"instruction": "Name the mood.", "input": "I lost my keys.", "output": "sad"}
    for options in ({}, {"prompt": "instruction", "answer": "output"}):
        (example,) = read(tmp_path, [record], **options)
        assert (example.prompt, example.answer) == ("Name the mood.\nI lost my keys.", "sad")
    (example,) = read(tmp_path, [record], prompt="input", answer="output")  # what the user names is taken
    assert example.prompt == "I lost my keys."


def test_every_turn_of_the_assistant_is_an_example(tmp_path: Path) -> None:
    first, second = read(tmp_path, [{"messages": messages([("system", "Be brief."), *ASKED])}])
    assert (first.prompt, first.answer, first.row) == ("Be brief.\n\nWhat is it?", "A house.", "past.jsonl:1#1")
    assert first.turns == (("system", "Be brief."), ASKED[0])
    plain = "Be brief.\n\nUser: What is it?\n\nAssistant: A house.\n\nUser: Is it old?\n\nAssistant:"
    assert (second.prompt, second.answer) == (plain, "Yes, it is.")
    assert second.turns == (("system", "Be brief."), *ASKED[:3])


def test_the_loss_is_where_transformers_has_the_assistant(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "base")
    codec = load_codec(ModelConfig(base=str(tmp_path / "base")))
    turns = messages([("system", "Be brief."), *ASKED])
    whole = codec.tokenizer.apply_chat_template(
        turns, chat_template=TEMPLATE, return_assistant_tokens_mask=True, return_dict=True, tokenize=True
    )
    marked = [token for token, mask in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if mask]
    encoder = ExampleEncoder(codec, 400)
    encoded = [encoder(example) for example in read(tmp_path, [{"messages": turns}])]
    assert [token for each in encoded for token in each.answer] == marked
    last = encoded[-1]
    assert [*last.prompt, *last.answer] == whole["input_ids"]


def oasst(id: str, parent: str | None, role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": id, "parent_id": parent, "role": role, "text": text, "lang": "en", **more}


def test_trees_have_one_example_for_each_answer(tmp_path: Path) -> None:
    tree = [
        oasst("a", None, "prompter", "What is it?"),
        oasst("b", "a", "assistant", "A house."),
        oasst("c", "a", "assistant", "A home.", deleted=True),
        oasst("e", "d", "assistant", "Yes, it is."),
        oasst("d", "b", "prompter", "Is it old?"),
    ]
    request = ReplayRequest()
    first, second = read(tmp_path, tree, request)
    assert (first.prompt, first.answer, first.target) == ("What is it?", "A house.", "en")
    assert (second.turns, second.answer) == (tuple(ASKED[:3]), "Yes, it is.")
    assert request.counts.dropped == {"deleted or refused by reviewers": 1}
    with pytest.raises(DataError, match=r"past\.jsonl:1: its parent 'z'"):
        read(tmp_path, [oasst("b", "z", "assistant", "x")])


def test_forms_are_never_mixed_up(tmp_path: Path) -> None:
    names = [*SINGLE]
    for one, other in (("messages", "Alpaca"), ("Alpaca", "P3"), ("P3", "messages"), ("completion", "preference")):
        assert {one, other} <= {*names}
        with pytest.raises(DataError, match=r"past\.jsonl:2: .*file of its own"):
            read(tmp_path, [SINGLE[one], SINGLE[other]])
    with pytest.raises(DataError, match=r"past\.jsonl:1: no text in the field 'inputs'.*messages"):
        read(tmp_path, [{"question": "x", "reply": "y"}])


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "user and assistant do not take turns"),
        ([("user", "a")], "no answer"),
        ([("user", "a"), ("tool", "b"), ("assistant", "c")], "turn of the role tool"),
        ([("user", "a"), ("system", "b"), ("assistant", "c")], "system's turn in the middle"),
    ],
)
def test_what_cannot_be_trained_on_is_counted(turns: Any, reason: str, tmp_path: Path) -> None:
    request = ReplayRequest()
    assert len(read(tmp_path, [{"messages": messages(turns)}, {"messages": messages(ASKED[:2])}], request)) == 1
    assert (request.counts.read, request.counts.dropped) == (1, {reason: 1})


def test_turns_that_are_no_turns(tmp_path: Path) -> None:
    for value in ("text", [{"content": "x"}], [{"role": "user", "content": 3}], [{"role": "user"}]):
        with pytest.raises(DataError, match=r"past\.jsonl:1"):
            read(tmp_path, [{"messages": value}])


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        (
            {"instruction": "Sum", "context": "Long.", "response": "Cats."},
            [("user", "Sum\nLong."), ("assistant", "Cats.")],
        ),
        (
            {"instruction": "c", "output": "d", "history": [["a", "b"]]},
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        ),
    ],
)
def test_dolly_and_histories_keep_their_parts(record: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    assert conversation_of(record, form_of(record), "a.jsonl:1") == turns


def test_a_history_that_is_no_pair_is_refused_and_an_empty_answer_is_a_flaw() -> None:
    with pytest.raises(DataError, match=r"a.jsonl:7.*history"):
        conversation_of({"instruction": "c", "output": "d", "history": [["x"]]}, "instruction", "a.jsonl:7")
    empty = {"instruction": "c", "output": ""}
    assert flaw_of(conversation_of(empty, form_of(empty), "a.jsonl:1")) == "turn without text"


GOOD = {"messages": messages(ASKED[:2])}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]}
PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}
KTO = {"prompt": ONE[0], "completion": ONE[1]}


@pytest.mark.parametrize(
    ("bad", "good", "reason"),
    [
        ({"messages": [*messages(ASKED[:1]), CALL]}, GOOD, "tool call"),
        ({"messages": [PICTURE, *messages(ASKED[1:2])]}, GOOD, "turn with a part that is no text"),
        (
            {"messages": [*messages(ASKED[:1]), {"role": "assistant", "content": None}]},
            GOOD,
            "turn without text",
        ),
        ({**KTO, "label": False}, {**KTO, "label": True}, "answer marked as bad (label: false)"),
        (
            {"messages": [*messages(ASKED[:1]), {**messages(ASKED[1:2])[0], "weight": 0}]},
            GOOD,
            "every answer is excluded (weight: 0)",
        ),
        ({"inputs": "x", "targets": None}, SINGLE["P3"], "not text"),
        ({"instruction": "x", "output": None}, SINGLE["Alpaca"], "turn without text"),
    ],
)
def test_one_bad_record_is_counted_and_kept_as_a_reject(
    bad: dict[str, Any], good: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    for records in ([bad, good], [good, bad]):
        request = ReplayRequest()
        (example,) = read(tmp_path, records, request)
        assert (example.prompt, example.answer) == ONE
        assert (request.counts.read, request.counts.dropped) == (1, {reason: 1})
    source = Entry(name="jsonl", options={"path": tmp_path / "past.jsonl"})
    load_replay(ReplayConfig(source=source, size=5), 1, rejects=tmp_path / "rejects.jsonl")
    (line,) = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert (line["filter"], line["corpus"]) == (reason, "replay jsonl")
    assert line["row"].endswith("past.jsonl:2")


def test_a_damaged_record_among_good_ones_is_counted(tmp_path: Path) -> None:
    for turns in ("text", [{"content": "x"}], [{"role": "user", "content": 3}], [{"role": "user"}]):
        request = ReplayRequest()
        assert len(read(tmp_path, [GOOD, {"messages": turns}], request)) == 1
        assert request.counts.dropped == {"turns are damaged": 1}


def test_an_answer_of_weight_0_is_context_alone(tmp_path: Path) -> None:
    turns = messages([("system", "Be brief."), *ASKED])
    for mark in ({"weight": 0}, {"train": False}):
        (example,) = read(tmp_path, [{"messages": [*turns[:2], {**turns[2], **mark}, *turns[3:]]}])
        assert (example.answer, example.turns) == ("Yes, it is.", (("system", "Be brief."), *ASKED[:3]))
    (example,) = read(tmp_path, [{"messages": [*turns[:4], {**turns[4], "weight": 0}]}])
    assert example.answer == "A house."


def test_the_input_of_a_question_is_not_all_of_it(tmp_path: Path) -> None:
    (example,) = read(tmp_path, [{"input": "I lost my keys.", "question": "Which mood?", "answer": "sad"}])
    assert example.prompt == "Which mood?\nI lost my keys."


@pytest.mark.parametrize("answer", ["response", "completion", "chosen"])
def test_the_input_of_a_prompt_belongs_to_the_question(answer: str, tmp_path: Path) -> None:
    record = {"prompt": "Name the mood.", "input": "I lost my keys.", answer: "sad"}
    for options in ({}, {"prompt": "prompt", "answer": answer}):
        (example,) = read(tmp_path, [record], **options)
        assert (example.prompt, example.answer) == ("Name the mood.\nI lost my keys.", "sad")


def test_empty_questions_and_answers_of_p3_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "past.jsonl"
    records = [SINGLE["P3"], {"inputs": " ", "targets": "a"}, {"inputs": "a", "targets": "\n"}]
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    source = Entry(name="jsonl", options={"path": path})
    buffer = load_replay(ReplayConfig(source=source, size=5), 1)
    assert [each.prompt for each in buffer.examples] == [ONE[0]]
    assert buffer.counts.dropped == {"empty prompt": 1, "empty answer": 1}


@pytest.mark.parametrize("keys", ["{{{rows}}}", '{{"version": 1, "data": {{{rows}}}}}'])
def test_one_object_of_records_by_id_is_read(tmp_path: Path, keys: str) -> None:
    rows = ", ".join(f'"q{i}": {{"prompt": "say {i}", "completion": "{i}"}}' for i in range(3))
    (tmp_path / "a.json").write_text(keys.format(rows=rows))
    found = list(read_jsonl_examples(path=tmp_path / "a.json"))
    assert [(each.prompt, each.answer) for each in found] == [(f"say {i}", f"{i}") for i in range(3)]
