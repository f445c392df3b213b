"""Label likelihoods against plain transformers, one item and one label at a time."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_models import ALL, TEXTS

from instructalign.evaluation.likelihood import (
    plan_batches,
    plan_prefixes,
    run_prefix,
    score_batch,
    score_continuations,
)
from instructalign.evaluation.prompting import Query
from instructalign.training.models import LoadedModel

WORDS = ["positive", "neutral", "tidak menyenangkan", "yes"]


def make_queries(loaded: LoadedModel, wording: str = "{}\nGood or bad?") -> list[Query]:
    queries = []
    for text in TEXTS:
        pairs = [loaded.codec.pair(wording.format(text), word) for word in WORDS]
        queries.append(Query(tuple(pairs[0][0]), tuple(tuple(label) for _, label in pairs)))
    assert {len(label) for query in queries for label in query.labels} > {1}
    return queries


def one_at_a_time(loaded: LoadedModel, query: Query) -> tuple[list[float], float]:
    """The scores by a full pass for each label, without padding, cache or anything of ours."""
    sums, before = [], 0.0
    for label in query.labels:
        with torch.no_grad():
            if loaded.encoder_decoder:
                start = loaded.model.config.decoder_start_token_id
                output = loaded.model(
                    input_ids=torch.tensor([query.prompt]),
                    decoder_input_ids=torch.tensor([[start, *label[:-1]]]),
                )
                chances = output.logits[0].log_softmax(-1)
            else:
                output = loaded.model(input_ids=torch.tensor([[*query.prompt, *label]]), use_cache=False)
                whole = output.logits[0].log_softmax(-1)
                chances = whole[len(query.prompt) - 1 :]
                before = sum(whole[i, token].item() for i, token in enumerate(query.prompt[1:]))
        sums.append(sum(chances[i, token].item() for i, token in enumerate(label)))
    return sums, before


def score_in_batches(
    loaded: LoadedModel, queries: list[Query], size: int, prompts: bool = False
) -> list[tuple[float, ...]]:
    result: list[tuple[float, ...]] = []
    for start in range(0, len(queries), size):
        batch = score_batch(loaded, queries[start : start + size], prompts=prompts)
        result += [(*scores.labels, *([scores.prompt] if prompts else [])) for scores in batch]
    return result


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_equals_plain_transformers(loaded_model, family, size):
    loaded = loaded_model(family)
    queries = make_queries(loaded)
    for got, query in zip(score_in_batches(loaded, queries, size), queries, strict=True):
        assert got == pytest.approx(one_at_a_time(loaded, query)[0], abs=1e-5)


@pytest.mark.parametrize("family", [family for family in ALL if "t5" not in family])
def test_a_beginning_that_all_prompts_share_changes_nothing(loaded_model, family):
    loaded = loaded_model(family)
    queries = make_queries(loaded, "Say whether the following text is good or bad: {}")
    tokens = count_tokens(loaded)
    for got, query in zip(score_in_batches(loaded, queries, 5), queries, strict=True):
        assert got == pytest.approx(one_at_a_time(loaded, query)[0], abs=1e-5)
    whole = sum(len(query.prompt) for query in queries)
    if family in ("bloom", "llama", "gpt_neox", "qwen2"):
        assert tokens[0] < 40  # the beginning, once
    assert whole > 200


def count_tokens(loaded: LoadedModel) -> list[int]:
    """Appends, to the list it gives, how many tokens each later call of the model is given; forgets after 9."""
    seen: list[int] = []

    def count(model, args, keywords):
        seen.append(keywords["input_ids"].numel())
        if len(seen) == 9:
            handle.remove()

    handle = loaded.model.register_forward_pre_hook(count, with_kwargs=True)
    return seen


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_prompt_likelihood_equals_plain_transformers(loaded_model, family):
    loaded = loaded_model(family)
    queries = make_queries(loaded)
    for got, query in zip(score_in_batches(loaded, queries, 4, prompts=True), queries, strict=True):
        sums, before = one_at_a_time(loaded, query)
        assert got == pytest.approx([*sums, before], abs=2e-4)  # sums over more than a hundred tokens


@pytest.mark.parametrize("family", ["bloom", "llama", "mt5"])
def test_order_and_padding_side_change_nothing(loaded_model, family):
    loaded = loaded_model(family)
    queries = make_queries(loaded)
    expected = score_in_batches(loaded, queries, 64)
    order = list(range(len(queries)))
    random.Random(3).shuffle(order)
    side = loaded.tokenizer.padding_side
    loaded.tokenizer.padding_side = "left" if side == "right" else "right"
    try:
        shuffled = score_in_batches(loaded, [queries[index] for index in order], 4)
    finally:
        loaded.tokenizer.padding_side = side
    for index, got in zip(order, shuffled, strict=True):
        assert got == pytest.approx(expected[index], abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(loaded_model, training):
    loaded = loaded_model("llama")
    loaded.model.train(training)
    try:
        first = score_batch(loaded, make_queries(loaded)[:2])
        assert loaded.model.training is training
        assert first == score_batch(loaded, make_queries(loaded)[:2])
    finally:
        loaded.model.eval()


def test_prompt_runs_once_for_all_labels(loaded_model):
    loaded = loaded_model("llama")
    queries = make_queries(loaded)
    seen = []
    handle = loaded.model.register_forward_pre_hook(
        lambda _, args, keywords: seen.append(keywords["input_ids"].numel()), with_kwargs=True
    )
    score_batch(loaded, queries)
    handle.remove()
    # The label with the most tokens runs in the same pass; those of one token need none.
    tokens = [sum(len(query.labels[i]) for query in queries) for i in range(len(WORDS))]
    inside = tokens.index(max(tokens))
    assert seen[0] == len(queries) * max(len(query.prompt) + len(query.labels[inside]) - 1 for query in queries)
    behind = [max(len(q.labels[i]) for q in queries) - 1 for i in range(len(WORDS)) if i != inside]
    assert seen[1:] == [len(queries) * width for width in behind if width]


def test_an_encoder_runs_once_for_all_labels(loaded_model):
    loaded = loaded_model("mt5")
    seen = []
    handle = loaded.model.get_encoder().register_forward_pre_hook(lambda *_: seen.append(1))
    score_batch(loaded, make_queries(loaded))
    handle.remove()
    assert seen == [1]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=80), st.integers(1, 300))
def test_batches_hold_every_query_once_within_the_budget(kinds, budget):
    queries = [
        Query(tuple(range(length)) if alike else (100 + number,) * length, ((1,),))
        for number, (alike, length) in enumerate(kinds)
    ]
    batches = plan_batches(queries, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(queries)))
    long_alike = {index for index, (alike, length) in enumerate(kinds) if alike and length >= 8}
    for batch in batches:
        lengths = [len(queries[index].prompt) for index in batch]
        assert lengths == sorted(lengths, reverse=True)
        assert len(batch) == 1 or len(batch) * lengths[0] <= budget
        if len(long_alike) >= 8:
            assert set(batch) <= long_alike or not set(batch) & long_alike


def test_context_comes_from_the_model_or_the_tokenizer(loaded_model):
    assert loaded_model("llama").codec.context == 512
    assert loaded_model("t5").codec.context is None


def likeliest(loaded: LoadedModel, query: Query) -> list[bool]:
    """Which labels greedy decoding would write, by a full pass for each."""
    found = []
    for label in query.labels:
        with torch.no_grad():
            if loaded.encoder_decoder:
                start = [loaded.model.config.decoder_start_token_id]
                decoder = torch.tensor([[*start, *label[:-1]]])
                logits = loaded.model(input_ids=torch.tensor([query.prompt]), decoder_input_ids=decoder).logits[0]
            else:
                whole = loaded.model(input_ids=torch.tensor([[*query.prompt, *label]]), use_cache=False)
                logits = whole.logits[0, len(query.prompt) - 1 : -1]
        found.append(logits.argmax(-1).tolist() == list(label))
    return found


def add_greedy_label(loaded: LoadedModel, query: Query) -> Query:
    """The query with a label more, of three tokens, that the model itself would write."""
    label: tuple[int, ...] = ()
    for _ in range(3):
        with torch.no_grad():
            if loaded.encoder_decoder:
                start = [loaded.model.config.decoder_start_token_id]
                decoder = torch.tensor([[*start, *label]])
                logits = loaded.model(input_ids=torch.tensor([query.prompt]), decoder_input_ids=decoder).logits
            else:
                logits = loaded.model(input_ids=torch.tensor([[*query.prompt, *label]]), use_cache=False).logits
        label = (*label, int(logits[0, -1].argmax()))
    return Query(query.prompt, (*query.labels, label, (*label[:-1], (label[-1] + 1) % 300)))


@pytest.mark.parametrize("family", ALL)
def test_queries_may_differ_in_their_number_of_labels_and_say_what_greedy_decoding_would_write(
    loaded_model, family
):
    loaded = loaded_model(family)
    queries = [
        Query(query.prompt, query.labels[number % 3 :]) if number % 2 else add_greedy_label(loaded, query)
        for number, query in enumerate(make_queries(loaded))
    ]
    assert len({len(query.labels) for query in queries}) > 2
    found = score_batch(loaded, queries, greedy=True)
    for got, query in zip(found, queries, strict=True):
        assert got.labels == pytest.approx(one_at_a_time(loaded, query)[0], abs=1e-5)
        assert list(got.greedy) == likeliest(loaded, query)
    assert any(hit for got in found for hit in got.greedy)
    assert score_batch(loaded, queries[:1])[0].greedy == ()


@pytest.mark.parametrize("family", [family for family in ALL if "t5" not in family])
def test_a_continuation_in_one_pass_is_the_label_after_its_prompt(loaded_model, family):
    loaded = loaded_model(family)
    queries = [
        Query(each.prompt, each.labels[-2:-1] if number % 2 else each.labels[:1])
        for number, each in enumerate(add_greedy_label(loaded, query) for query in make_queries(loaded))
    ]
    found = score_continuations(loaded, queries, greedy=True)
    for got, query in zip(found, queries, strict=True):
        assert got.labels == pytest.approx(one_at_a_time(loaded, query)[0], abs=1e-5)
        assert list(got.greedy) == likeliest(loaded, query)
    assert {hit for got in found for hit in got.greedy} == {True, False}


@pytest.mark.parametrize("family", ALL)
def test_a_prefix_that_runs_once_for_many_batches_changes_nothing(loaded_model, family):
    loaded = loaded_model(family)
    shots = " ".join(TEXTS[:4])
    queries = [*make_queries(loaded, shots + "\n{}\nGood or bad?"), *make_queries(loaded)]
    plan = plan_prefixes(loaded, queries, 100)
    planned = [index for _, batches in plan for batch in batches for index in batch]
    assert sorted(planned) == list(range(len(queries)))
    seen, found = set(), {}
    for length, batches in plan:
        seen.add(length > 50)
        prefix = run_prefix(loaded, queries[batches[0][0]].prompt[:length]) if length else None
        for batch in batches:
            scores = score_batch(loaded, [queries[index] for index in batch], prefix=prefix)
            found.update(zip(batch, scores, strict=True))
    if family in ("bloom", "llama", "gpt_neox", "qwen2", "mistral"):
        assert seen == {True, False}
        assert max(len(batches) for length, batches in plan if length) > 1
    for index, query in enumerate(queries):
        assert found[index].labels == pytest.approx(one_at_a_time(loaded, query)[0], abs=1e-5)
