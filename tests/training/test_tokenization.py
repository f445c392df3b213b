"""Tokenisation, truncation and batching, checked by hand with a tokenizer whose ids say what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from instructalign.training.batching import ExampleEncoder, LossWeights, collate
from instructalign.training.chat import ChatTemplate
from instructalign.training.loss import token_losses
from instructalign.training.tokenization import Codec, truncate_pair
from instructalign.types import Instruction
from tiny import DECODER_ONLY, ENCODER_DECODER, tiny_model, tiny_tokenizer


class WordLengths:
    """A tokenizer double: a word's id is its length; 100 begins a text, 0 pads, 99 ends."""

    bos_token_id, pad_token_id, eos_token_id = 100, 0, 99

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [100] * add_special_tokens + [len(word) for word in text.split()]


def codec(encoder_decoder: bool = False) -> Codec:
    double: Any = WordLengths()
    return Codec(double, encoder_decoder)


def instruction(prompt: str, answer: str, kind: str = "mt") -> Instruction:
    return Instruction(prompt, answer, kind, "eng", "jav")


def test_pair_of_a_decoder_only_model() -> None:
    assert codec().pair("one three", "a bb") == ([100, 3, 5], [1, 2])
    encoded = ExampleEncoder(codec(), 16)(instruction("one three", "a bb"))
    assert (encoded.prompt, encoded.answer, encoded.truncated) == ([100, 3, 5], [1, 2, 99], ())


def test_pair_of_an_encoder_decoder_model() -> None:
    encoded = ExampleEncoder(codec(encoder_decoder=True), 16)(instruction("one three", "a bb"))
    assert (encoded.prompt, encoded.answer) == ([100, 3, 5], [1, 2, 99])


def test_long_prompt_is_truncated_at_its_start_and_keeps_its_first_token() -> None:
    encoded = ExampleEncoder(codec(), 8)(instruction("a bb ccc dddd eeeee ffffff", "a bb"))
    assert (encoded.prompt, encoded.answer) == ([100, 3, 4, 5, 6], [1, 2, 99])
    assert encoded.truncated == ("prompt truncated",)


def test_long_answer_keeps_half_and_does_not_end() -> None:
    encoded = ExampleEncoder(codec(), 8)(instruction("a a a a a a a", "bb bb bb bb bb bb bb"))
    assert (encoded.prompt, encoded.answer) == ([100, 1, 1, 1], [2, 2, 2, 2])
    assert encoded.truncated == ("prompt truncated", "answer truncated")


@given(
    st.lists(st.integers(1, 50), max_size=60),
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(8, 64),
)
def test_fit_keeps_the_length_and_some_of_the_answer(prompt: list[int], answer: list[int], length: int) -> None:
    kept_prompt, kept_answer = truncate_pair(prompt, answer, 99, length)
    assert len(kept_prompt) + len(kept_answer) <= length
    assert len(kept_answer) >= min(len(answer) + 1, length // 2)
    assert kept_answer == [*answer, 99][: len(kept_answer)]
    assert prompt[len(prompt) - len(kept_prompt) :] == kept_prompt


def test_seam_follows_the_whole_text() -> None:
    tokenizer = tiny_tokenizer()
    prompt, answer = Codec(tokenizer, False).pair("the food is", "good")
    assert prompt == tokenizer.encode("the food is")
    assert prompt + answer == tokenizer.encode("the food is good")
    assert Codec(tokenizer, False).pair("the food is  ", "good")[0] == prompt


def test_chat_template_wraps_the_prompt_and_the_answer_follows() -> None:
    tokenizer = tiny_tokenizer()
    turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}<a>{% endif %}"
    chat = Codec(tokenizer, False, ChatTemplate(tokenizer, tokenizer.chat_template, system_prompt="be kind"))
    prompt, answer = chat.pair("hello", "yes")
    assert tokenizer.decode(prompt) == "<system>be kind<user>hello<a>"
    assert tokenizer.decode(answer) == "yes"


def test_a_truncated_prompt_of_a_chat_keeps_the_beginning_of_the_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>"
    chat = Codec(tokenizer, False, ChatTemplate(tokenizer, tokenizer.chat_template, system_prompt="be kind"))
    opening = chat.opening()
    assert tokenizer.decode(opening) == "<system>be kind<user>"
    long = instruction(" ".join(f"word{i}" for i in range(60)), "yes")
    whole = ExampleEncoder(chat, 1000)(long)
    encoded = ExampleEncoder(chat, 100)(long)
    assert encoded.truncated == ("prompt truncated",)
    assert len(encoded) == 100
    assert encoded.prompt[: len(opening)] == opening
    assert encoded.prompt[len(opening) :] == whole.prompt[len(opening) - len(encoded.prompt) :]
    short = ExampleEncoder(chat, len(opening))(long)  # no room for an opening and for what it opens
    assert short.prompt[:1] == opening[:1]
    assert short.prompt[1:] == whole.prompt[1 - len(short.prompt) :]


def test_collate_shifts_targets_and_weighs_answers() -> None:
    encoder = ExampleEncoder(codec(), 16)
    batch = collate(
        [encoder(instruction("one three", "a bb")), encoder(instruction("x", "y"))],
        codec(),
        LossWeights(prompt=0.2),
    )
    assert batch["inputs"]["input_ids"].tolist() == [[100, 3, 5, 1, 2, 99], [100, 1, 1, 99, 0, 0]]
    assert batch["lengths"] == [6, 4]
    assert batch["targets"].tolist() == [[3, 5, 1, 2, 99, 0], [1, 1, 99, 0, 0, 0]]
    expected = torch.tensor([[0.2, 0.2, 1, 1, 1, 0], [0.2, 1, 1, 0, 0, 0]])
    assert torch.equal(batch["weights"], expected)


@pytest.mark.parametrize("family", DECODER_ONLY)
@pytest.mark.parametrize("weights", [LossWeights(), LossWeights(prompt=1.0)])
def test_loss_equals_that_of_transformers(family: str, weights: LossWeights) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    plain = Codec(tokenizer, False)
    encoder = ExampleEncoder(plain, 64)
    batch = collate(
        [encoder(instruction("the food is", "good")), encoder(instruction("resik", "clean and good"))],
        plain,
        weights,
    )
    ids = batch["inputs"]["input_ids"]
    mask = (torch.arange(ids.shape[1]) < torch.tensor(batch["lengths"])[:, None]).long()
    labels = torch.full_like(ids, -100)
    labels[:, 1:][batch["weights"][:, :-1] > 0] = ids[:, 1:][batch["weights"][:, :-1] > 0]
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        ours = token_losses(model, batch, False).mean()
    assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_loss_of_encoder_decoder_models_equals_that_of_transformers(family: str) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    plain = Codec(tokenizer, True)
    encoder = ExampleEncoder(plain, 64)
    examples = [encoder(instruction("the food is", "good")), encoder(instruction("resik", "clean and good"))]
    batch = collate(examples, plain, LossWeights())
    labels = batch["targets"].masked_fill(batch["weights"] == 0, -100)
    with torch.no_grad():
        logits = model(**batch["inputs"], labels=labels).logits
        expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        ours = token_losses(model, batch, True).mean()
    assert torch.allclose(ours, expected, atol=1e-6)
