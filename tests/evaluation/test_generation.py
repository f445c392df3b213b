"""Generation against plain transformers: in batches, up to the end of a line, and by continuous batching."""

from __future__ import annotations

import copy

import pytest
import torch
from random_models import TEXTS

from instructalign.errors import DataError, ModelError
from instructalign.training.generation import (
    LINE_END,
    Generated,
    _line_end_tokens,
    check_continuous,
    decode_until,
    generate,
    generate_batch,
    generate_lines_continuously,
    plan_generation,
)

PROMPTS = [f"{text}\nJavanese:" for text in TEXTS]


def encode(loaded, prompts):
    return [loaded.codec.pair(prompt, "")[0] for prompt in prompts]


def lines(loaded, prompts, tokens, batch_tokens, stops=LINE_END):
    """The first line after each prompt, and whether it is unfinished."""
    encoded, found = encode(loaded, prompts), {}
    for batch in plan_generation(loaded, encoded, tokens, batch_tokens):
        written = generate_batch(loaded, [encoded[index] for index in batch], tokens, stops=stops)
        found.update(zip(batch, written, strict=True))
    return [decode_until(loaded.tokenizer, found[index]) for index in range(len(prompts))]


def always(loaded, monkeypatch, tokens):
    """Makes a model prefer these tokens, one after the other, and gives the list of its steps."""
    steps, forward = [], loaded.model.forward

    def preferred(*args, **given):
        output = forward(*args, **given)
        steps.append(1)
        output.logits[:, -1] = -1e9
        output.logits[:, -1, tokens[min(len(steps), len(tokens)) - 1]] = 0
        return output

    monkeypatch.setattr(loaded.model, "forward", preferred)
    return steps


@pytest.mark.parametrize("family", ["llama", "bloom", "t5"])
def test_batches_write_what_single_prompts_write(loaded_model, family):
    loaded = loaded_model(family)
    alone = [lines(loaded, [prompt], 10, 1)[0] for prompt in PROMPTS]
    assert lines(loaded, PROMPTS, 10, 10_000) == alone
    assert lines(loaded, PROMPTS, 10, 300) == alone
    assert family != "llama" or len({text for text, _ in alone}) > 3


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_tokens_and_likelihoods_are_those_of_plain_transformers(loaded_model, family):
    loaded = loaded_model(family)
    prompts = encode(loaded, PROMPTS[:4])
    for prompt, written in zip(prompts, generate(loaded, prompts, 8, 10_000), strict=True):
        plain = loaded.model.generate(
            torch.tensor([prompt]),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = plain.sequences[0, 1 if loaded.encoder_decoder else len(prompt) :].tolist()
        logs = [step[0].log_softmax(-1)[token].item() for step, token in zip(plain.logits, tokens, strict=True)]
        assert written.finished is (tokens[-1] == 1)
        assert written.tokens == (tokens[:-1] if written.finished else tokens)
        assert written.likelihood == pytest.approx(sum(logs) / len(logs), abs=1e-4)


def test_a_prompt_that_fills_the_context_is_refused(loaded_model):
    with pytest.raises(DataError, match=r"a prompt of \d+ tokens .* context of 512: ab ab"):
        lines(loaded_model("llama"), ["ab " * 600], 8, 100)


def test_a_line_ends_with_its_line_end_or_the_texts(loaded_model):
    tokenizer = loaded_model("llama").tokenizer
    for text, finished, expected in (
        ("dua\ntiga", False, ("dua", False)),
        ("\n\n dua", True, ("dua", False)),
        (" dua ", False, ("dua", True)),
        ("", False, ("", True)),
    ):
        assert decode_until(tokenizer, Generated(tokenizer.encode(text), finished)) == expected


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_stopping_at_line_ends_gives_the_lines_of_not_stopping(loaded_model, family):
    loaded = loaded_model(family)
    assert lines(loaded, PROMPTS, 40, 100_000) == lines(loaded, PROMPTS, 40, 100_000, stops=())


def test_no_step_after_the_line(loaded_model, monkeypatch):
    loaded = loaded_model("llama")
    (end,) = loaded.tokenizer.encode("\n")
    (letter,) = loaded.tokenizer.encode("a")
    steps = always(loaded, monkeypatch, [end, letter, end])
    assert lines(loaded, ["good"], 30, 1000) == [("a", False)]
    assert len(steps) == 3  # a line end in front, a letter, and the end of the line


@pytest.mark.parametrize("family", ["llama", "bloom", "t5"])
def test_each_prompt_has_a_limit_of_its_own(loaded_model, family):
    loaded = loaded_model(family)
    prompts = encode(loaded, PROMPTS)
    limits = [3 + 4 * (index % 3) for index in range(len(prompts))]
    together = generate_batch(loaded, prompts, limits)
    alone = [generate_batch(loaded, [prompt], limit)[0] for prompt, limit in zip(prompts, limits, strict=True)]
    assert together == alone
    whole = generate_batch(loaded, prompts, 11)
    for written, full, limit in zip(together, whole, limits, strict=True):
        assert written.tokens == full.tokens[:limit]
        assert written.finished is (full.finished and len(full.tokens) < limit)
    assert {len(written.tokens) for written in together} & {3, 7, 11} != set()


def test_batches_hold_prompts_of_about_the_same_limit_and_no_more_tokens_than_allowed(loaded_model):
    loaded = loaded_model("llama")
    prompts = [[5] * (10 + 7 * index % 23) for index in range(40)]
    limits = [8 + 31 * index % 57 for index in range(40)]
    batches = plan_generation(loaded, prompts, limits, 300)
    assert sorted(index for batch in batches for index in batch) == list(range(40))
    sizes = [len(some) * (max(len(prompts[i]) for i in some) + max(limits[i] for i in some)) for some in batches]
    assert all(size <= 300 or len(some) == 1 for size, some in zip(sizes, batches, strict=True))
    in_order = [limits[index] for batch in batches for index in batch]
    assert in_order == sorted(limits, reverse=True)


# -- continuous batching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_continuous_batching_gives_the_same_lines(loaded_model, family):
    loaded = loaded_model(family)
    check_continuous(loaded)
    written = generate_lines_continuously(loaded, encode(loaded, PROMPTS), 24)
    expected = lines(loaded, PROMPTS, 24, 10_000)
    assert [decode_until(loaded.tokenizer, each) for each in written] == expected
    assert len(set(expected)) > 3
    assert not loaded.model.training


def test_continuous_batching_has_the_limit_of_each_prompt(loaded_model):
    loaded = loaded_model("llama")
    prompts = encode(loaded, PROMPTS)
    limits = [2 + 5 * (index % 3) for index in range(len(prompts))]
    written = generate_lines_continuously(loaded, prompts, limits)
    expected = generate_batch(loaded, prompts, limits, stops=LINE_END)
    lines_of = [[decode_until(loaded.tokenizer, each) for each in some] for some in (written, expected)]
    assert lines_of[0] == lines_of[1]


def test_tokens_with_a_line_end(loaded_model):
    tokenizer = loaded_model("llama").tokenizer
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer))}
    assert _line_end_tokens(tokenizer) == {token for token, text in texts.items() if "\n" in text} != set()


def test_continuous_batching_continues_after_line_ends_in_front(loaded_model, monkeypatch):
    """Every token is a line end, so that each row comes back after every token, until its room is used up."""
    from instructalign.training import generation

    loaded = loaded_model("llama")
    monkeypatch.setattr(generation, "_line_end_tokens", lambda tokenizer: frozenset(range(2, len(tokenizer))))
    written = generate_lines_continuously(loaded, encode(loaded, PROMPTS[:2]), 5)
    assert [decode_until(loaded.tokenizer, each) for each in written] == lines(loaded, PROMPTS[:2], 5, 10_000)


@pytest.mark.parametrize(("family", "reason"), [("t5", "encoder"), ("bloom", "attention"), ("llama", "penalty")])
def test_models_that_continuous_batching_cannot_run(loaded_model, family, reason, monkeypatch):
    loaded = loaded_model(family)
    if reason == "penalty":
        settings = copy.deepcopy(loaded.model.generation_config)
        settings.repetition_penalty = 1.2
        monkeypatch.setattr(loaded.model, "generation_config", settings)
    with pytest.raises(ModelError, match=rf"evaluation\.engine: .*{reason}.*transformers"):
        check_continuous(loaded)
