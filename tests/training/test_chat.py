"""Chat templates, against strings rendered by hand and against the tokens that transformers itself gives.

The templates are our own, short ones in the shape of those of well-known families.
"""

from __future__ import annotations

from typing import Any

import pytest

from instructalign.config import ModelConfig
from instructalign.errors import ModelError
from instructalign.training.batching import ExampleEncoder
from instructalign.training.chat import ChatTemplate, load_chat_template
from instructalign.training.tokenization import Codec
from instructalign.types import Instruction
from tiny import tiny_tokenizer

TURNS = "{% for m in messages %}<|s|>{{ m.role }}:{{ m.content }}<|e|>\n{% endfor %}"
BEGIN = "{% if add_generation_prompt %}<|s|>assistant:{% endif %}"
HYBRID = TURNS + BEGIN[:-11] + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"


HEADERS = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|s|>system:Today Date: {{ date_string }}\n\n{{ system | trim }}<|e|>"
    "{% for m in messages %}<|s|>{{ m.role }}:\n\n{{ m.content | trim }}<|e|>{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant:\n\n{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}"
    "{% endif %}<|s|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>model\n{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
CHANNELS = (
    "{% for m in messages %}<|s|>{{ m.role }}{{ '#final' if m.role == 'assistant' }}:{{ m.content }}<|e|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant{% endif %}"
)
THINKER = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|e|>\n{% endfor %}{% if add_generation_prompt %}<|s|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|e|>{% endgeneration %}\n{% else %}{{ m.content }}<|e|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
FAMILIES = {
    "Llama 3": HEADERS,
    "Gemma": STRICT,
    "Mistral": BRACKETS,
    "gpt-oss": CHANNELS,
    "Qwen 3": THINKER,
    "SmolLM 3": MARKED,
    "ChatML": TURNS + BEGIN,
}


def loaded(template: Any, **options: Any) -> ChatTemplate:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<|s|>", "<|e|>"]})
    tokenizer.chat_template = template
    chat = load_chat_template(tokenizer, ModelConfig(base="m", **options))
    assert chat is not None
    return chat


def ask(chat: ChatTemplate, text: str = "hello") -> str:
    return chat.render([{"role": "user", "content": text}])


def test_the_turn_ends_as_the_template_ends_it() -> None:
    chat = loaded(TURNS + BEGIN)
    assert Codec(chat.tokenizer, False, chat).end == chat.tokenizer.convert_tokens_to_ids("<|e|>")
    assert Codec(chat.tokenizer, False).end == chat.tokenizer.eos_token_id
    assert "ends a turn with '<|e|>'" in chat.notes[0]


@pytest.mark.parametrize(
    "refusal", ["{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS, None]
)
def test_a_system_prompt_opens_the_users_turn_where_there_is_no_systems_turn(refusal: str | None) -> None:
    silent = "{% for m in messages if m.role != 'system' %}<|s|>{{ m.role }}:{{ m.content }}<|e|>\n{% endfor %}"
    chat = loaded((refusal or silent) + BEGIN, system_prompt="be kind")
    assert ask(chat) == "<|s|>user:be kind\n\nhello<|e|>\n<|s|>assistant:"


def test_thinking_is_off_unless_it_is_asked_for() -> None:
    assert ask(loaded(HYBRID)).endswith("<|s|>assistant:<think>\n\n</think>\n\n")
    assert ask(loaded(HYBRID, chat_options={"enable_thinking": True})).endswith("<|s|>assistant:")


def test_a_thought_that_the_template_opens_is_closed() -> None:
    always = loaded(TURNS + BEGIN[:-11] + "<think>\n{% endif %}")
    assert ask(always).endswith("<|s|>assistant:<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "05 Jan 2026"),
        ('{%- set style = "%Y-%m-%d" -%}{{ strftime_now(style) }}', "2026-01-05"),
        ("{% if strftime_now is defined %}{{ strftime_now('%A, %-d %B %Y, %H:%M:%S') }}{% endif %}.",
         "Monday, 5 January 2026, 00:00:00."),
    ],
)  # fmt: skip
def test_the_date_is_pinned(written: str, expected: str) -> None:
    dated = written + "\n" + TURNS + BEGIN
    assert ask(loaded(dated, chat_date="2026-01-05")) == f"{expected}\n<|s|>user:hello<|e|>\n<|s|>assistant:"
    assert "26 Jul 2024" in ask(loaded(HEADERS))
    assert any("model.chat_date" in note for note in loaded(dated).notes)


def test_the_templates_own_variable_for_the_date_wins() -> None:
    assert "Today Date: 1 May\n" in ask(loaded(HEADERS, chat_options={"date_string": "1 May"}))


@pytest.mark.parametrize("name", ["enable_thinkng", "messages", "tokenize"])
def test_an_option_that_the_template_does_not_read_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.chat_options\.{name}: .*Available: enable_thinking\."):
        loaded(HYBRID, chat_options={name: False})


def test_a_template_that_refuses_one_text_says_so_when_it_comes() -> None:
    picky = (
        "{% if 'tabu' in messages[0].content %}{{ raise_exception('not that word') }}{% endif %}" + TURNS + BEGIN
    )
    chat = loaded(picky)
    with pytest.raises(ModelError, match=r"template of m .*not that word\. .*model\.chat: never"):
        ask(chat, "a tabu word")


@pytest.mark.parametrize(
    ("family", "system"),
    [(family, None) for family in FAMILIES]
    + [(family, "be kind") for family in FAMILIES if family not in ("Gemma", "Mistral")],
)
def test_prompt_answer_and_end_are_the_tokens_of_the_whole_conversation(family: str, system: str | None) -> None:
    chat = loaded(FAMILIES[family], system_prompt=system)
    codec = Codec(chat.tokenizer, False, chat)
    encoded = ExampleEncoder(codec, 512)(Instruction("where is it", "it is here", "mt"))
    turns = [{"role": "system", "content": system}] if system else []
    turns += [
        {"role": "user", "content": "where is it"},
        {"role": "assistant", "content": "it is here"},
    ]
    whole: Any = chat.tokenizer.apply_chat_template(turns, chat_template=chat.template, **chat.options)
    ids = list(whole["input_ids"])
    ours = encoded.prompt + encoded.answer
    assert ours == ids[: len(ours)]
    assert chat.tokenizer.decode(ids[len(ours) :]).strip() == ""
    begun: Any = chat.tokenizer.apply_chat_template(
        turns[:-1], chat_template=chat.template, add_generation_prompt=True, **chat.options
    )
    assert encoded.prompt[: len(begun["input_ids"])] == list(begun["input_ids"])
    assert encoded.answer[-1] == codec.end
    assert chat.tokenizer.decode(encoded.answer[:-1]).strip() == "it is here"


def test_the_loss_falls_on_what_the_template_marks_as_the_assistants() -> None:
    chat = loaded(MARKED)
    encoded = ExampleEncoder(Codec(chat.tokenizer, False, chat), 512)(
        Instruction("which food", "the good one", "mt")
    )
    turns = [{"role": "user", "content": "which food"}, {"role": "assistant", "content": "the good one"}]
    whole: Any = chat.tokenizer.apply_chat_template(turns, return_assistant_tokens_mask=True)
    marked = [token for token, ours in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if ours]
    assert encoded.answer == marked
    assert len(marked) > 2


def test_one_of_several_templates_is_chosen_by_name() -> None:
    named = {"rag": TURNS + BEGIN, "tool_use": "!" + TURNS + BEGIN}
    with pytest.raises(ModelError, match="none is its default: rag, tool_use"):
        loaded(named)
    with pytest.raises(ModelError, match="Did you mean 'rag'"):
        loaded(named, chat_template="rags")
    assert ask(loaded(named, chat_template="tool_use")).startswith("!<|s|>user:hello")


def test_a_template_that_fails_says_why() -> None:
    with pytest.raises(ModelError, match=r"UndefinedError: 'tone' is undefined.*model\.chat_options"):
        loaded("{{ tone.name }}" + TURNS + BEGIN)
    with pytest.raises(ModelError, match="leaves out the user's words"):
        loaded("nothing" + BEGIN)


def test_special_tokens_that_a_text_spells_are_text() -> None:
    chat = loaded(TURNS + BEGIN)
    tokenizer: Any = chat.tokenizer
    special = set(tokenizer.all_special_ids) | {*tokenizer.convert_tokens_to_ids(["<|s|>", "<|e|>"])}
    plain = Codec(tokenizer, False)
    prompt, answer = plain.pair("the </s> food <|e|>", "is <pad> good")
    assert not special & {*prompt, *answer}
    assert tokenizer.decode(prompt + answer) == "the </s> food <|e|> is <pad> good"
    wrapped = Codec(tokenizer, False, chat)
    prompt, answer = wrapped.pair("the </s> food", "<|e|>")
    assert [token for token in prompt if token in special] == tokenizer.convert_tokens_to_ids(
        ["<|s|>", "<|e|>", "<|s|>"]
    )
    assert not special & {*answer}
    assert tokenizer.decode(prompt) == "<|s|>user:the </s> food<|e|>\n<|s|>assistant:"
    assert wrapped.pairs(["the </s> food"], ["<|e|>"]) == [(prompt, answer)]
