"""Chat templates and special tokens, against strings rendered by hand."""

from __future__ import annotations

from typing import Any

import pytest

from instructalign.config import ModelConfig
from instructalign.errors import ModelError
from instructalign.training.chat import ChatTemplate, load_chat_template
from instructalign.training.special_tokens import literal_tokenizer
from instructalign.training.tokenization import Codec
from tiny import tiny_tokenizer

TURNS = "{% for m in messages %}<|s|>{{ m.role }}:{{ m.content }}<|e|>\n{% endfor %}"
BEGIN = "{% if add_generation_prompt %}<|s|>assistant:{% endif %}"
HYBRID = TURNS + BEGIN[:-11] + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"


def loaded(template: Any, **options: Any) -> ChatTemplate:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|s|>", "<|e|>"]})
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


def test_the_date_is_pinned() -> None:
    dated = "{{ strftime_now('%d %b %Y') }}\n" + TURNS + BEGIN
    assert ask(loaded(dated)).startswith("26 Jul 2024\n")
    assert ask(loaded(dated, chat_date="2026-01-31")).startswith("31 Jan 2026\n")


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


def test_ordinary_texts_keep_their_ids_in_a_literal_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    literal = literal_tokenizer(tokenizer)
    assert literal is not None
    for text in ("the food is good", "panganane enak\nlan", "  ___ é"):
        assert literal.encode(text) == tokenizer.encode(text)
