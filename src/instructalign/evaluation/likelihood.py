"""The log-likelihood of labels given a prompt.

A prompt runs through the model once, whatever the number of labels: its last token gives the likelihood of every
label's first token, and its key/value cache (or the encoder's output) serves for the labels' later tokens. A
prefix that all prompts of a batch share runs once for all. The output layer runs only where a logit is needed.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instructalign.evaluation.prompting import Query
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.models import LoadedModel, logits_at

_SHARED = 8  # tokens that a prefix must have, and prompts that must share it, for running it once to pay

CPU_BATCH_TOKENS = 1024
"""Tokens per batch above which a CPU only gets slower, since its caches no longer hold the batch."""


class Likelihoods(NamedTuple):
    """The log-likelihoods of one query, in nats.

    Attributes:
        labels: by label, the sum over its tokens given the prompt.
        prompt: the sum over the prompt's tokens after the first; None where it is not needed.
    """

    labels: Sequence[float]
    prompt: float | None = None


def plan_batches(queries: Sequence[Query], batch_tokens: int) -> list[list[int]]:
    """Groups queries that share a prefix and have about the same length, the longest first.

    Args:
        queries: any number.
        batch_tokens: prompt tokens per batch, padding included; a longer prompt has a batch to itself.

    Returns:
        The indices of the queries in each batch; the same for the same queries.
    """
    heads = [query.prompt[:_SHARED] for query in queries]
    often = {head for head, count in Counter(heads).items() if count >= _SHARED and len(head) == _SHARED}
    groups = [head if head in often else () for head in heads]
    order = sorted(range(len(queries)), key=lambda index: (groups[index], -len(queries[index].prompt), index))
    batches: list[list[int]] = []
    for index in order:
        first = batches[-1][0] if batches else index
        fits = len(queries[first].prompt) * (len(batches[-1]) + 1 if batches else 1) <= batch_tokens
        if batches and fits and groups[first] == groups[index]:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def score_batch(loaded: LoadedModel, queries: Sequence[Query], *, prompts: bool = False) -> list[Likelihoods]:
    """Scores queries that go through the model together.

    Args:
        loaded: the model.
        queries: at least one; each with the same number of labels.
        prompts: whether the likelihood of the prompts is needed too (not for encoder-decoder models).
    """
    model: Any = loaded.model
    with fast_inference(model, float32_logits=True):
        if loaded.encoder_decoder:
            return _score_decoder(model, queries)
        return _score_sequence(model, queries, prompts=prompts)


def _score_sequence(model: Any, queries: Sequence[Query], *, prompts: bool) -> list[Likelihoods]:
    """Decoder-only models: prompt and label are one sequence."""
    lengths = torch.tensor([len(query.prompt) for query in queries])
    width = int(lengths.max())
    later = max(len(label) for query in queries for label in query.labels) - 1  # tokens after a label's first
    reusable = _can_reuse_cache(model, width + later)
    shared, cache = _run_shared_prefix(model, queries) if reusable and not prompts else (0, None)
    ids = _pad([query.prompt[shared:] for query in queries])
    positions = torch.arange(shared, width)
    needed = positions < lengths[:, None] if prompts else positions == lengths[:, None] - 1
    # Padding is on the right, where causal attention cannot see it: no mask is needed.
    with logits_at(model, needed.to(model.device)):
        output = model(
            input_ids=ids.to(model.device),
            past_key_values=cache,
            use_cache=shared > 0 or (later > 0 and reusable),
        )
    last = output.logits[needed.sum(dim=1).cumsum(0).to(model.device) - 1] if prompts else output.logits
    sums = _first_tokens(last, queries)
    prompt_sums: list[float | None] = [None] * len(queries)
    if prompts:
        # The logits at a prompt's last token belong to the label: they are paired with any token and left out.
        prompt_sums[:] = _sums(output.logits, [(*query.prompt[1:], 0) for query in queries], skip_last=True)
    if later > 0 and reusable:
        mask = torch.arange(width) < lengths[:, None]
        _add_later_tokens(model, queries, sums, output.past_key_values, mask, lengths)
    elif later > 0:
        _add_later_tokens_without_cache(model, queries, sums)
    return [Likelihoods(tuple(row), before) for row, before in zip(sums, prompt_sums, strict=True)]


def _run_shared_prefix(model: Any, queries: Sequence[Query]) -> tuple[int, Any]:
    """Runs the prefix that all prompts share once: its length in tokens, and its key/value cache for each row.

    Prompts share a prefix where the question precedes the item's text, or a chat's system turn precedes both.
    Every prompt keeps at least one token of its own.
    """
    rows = [query.prompt[:-1] for query in queries]
    columns = zip(*rows, strict=False)
    length = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    if len(queries) == 1 or length < _SHARED:
        return 0, None
    ids = torch.tensor([rows[0][:length]], device=model.device)
    with logits_at(model, torch.zeros_like(ids, dtype=torch.bool)):
        cache = model(input_ids=ids, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(queries))
    return length, cache


def _score_decoder(model: Any, queries: Sequence[Query]) -> list[Likelihoods]:
    """Encoder-decoder models: the prompt is the encoder's, the label the decoder's."""
    ids = _pad([query.prompt for query in queries]).to(model.device)
    lengths = torch.tensor([len(query.prompt) for query in queries], device=model.device)
    mask = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
    later = max(len(label) for query in queries for label in query.labels) - 1
    start = torch.full((len(queries), 1), model.config.decoder_start_token_id, device=model.device)
    output = model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=start, use_cache=later > 0)
    sums = _first_tokens(output.logits[:, -1], queries)
    if later > 0:
        inputs = {"encoder_outputs": (output.encoder_last_hidden_state,), "attention_mask": mask.long()}
        _add_later_tokens(model, queries, sums, output.past_key_values, None, None, **inputs)
    return [Likelihoods(tuple(row)) for row in sums]


def _add_later_tokens(
    model: Any,
    queries: Sequence[Query],
    sums: list[list[float]],
    cache: Any,
    mask: Tensor | None,
    lengths: Tensor | None,
    **inputs: Any,
) -> None:
    """Adds the log-likelihood of the labels' tokens after the first, label by label, with the prompts' cache.

    Args:
        model: the model.
        queries: the batch.
        sums: by query and label, the sums so far; added to in place.
        cache: key/value cache of the prompts; left as it was found.
        mask: bool [batch, seq], which positions of the cache hold a token; None for encoder-decoder models.
        lengths: [batch], the prompts' lengths; None for encoder-decoder models.
        inputs: further arguments of the model's call.
    """
    for choice in range(len(queries[0].labels)):
        labels = [query.labels[choice] for query in queries]
        width = max(map(len, labels)) - 1
        if width == 0:
            continue
        ids = _pad([label[:-1] for label in labels])
        place = torch.arange(width)
        needed = place < torch.tensor([len(label) - 1 for label in labels])[:, None]
        call = dict(inputs)
        if mask is None or lengths is None:
            call["decoder_input_ids"] = ids.to(model.device)
        else:
            call["input_ids"] = ids.to(model.device)
            call["attention_mask"] = torch.cat([mask, torch.ones_like(ids).bool()], 1).long().to(model.device)
            if _takes(model, "position_ids"):
                call["position_ids"] = (lengths[:, None] + place).to(model.device)
        with logits_at(model, needed.to(model.device)):
            output = model(past_key_values=cache, use_cache=True, **call)
        for row, value in zip(sums, _sums(output.logits, [label[1:] for label in labels]), strict=True):
            row[choice] += value
        cache.crop(-width)


def _add_later_tokens_without_cache(model: Any, queries: Sequence[Query], sums: list[list[float]]) -> None:
    """`_add_later_tokens` for models that cannot reuse a cache: the prompt runs again for each label."""
    for choice in range(len(queries[0].labels)):
        labels = [query.labels[choice] for query in queries]
        ids = _pad([(*query.prompt, *label[:-1]) for query, label in zip(queries, labels, strict=True)])
        lengths = torch.tensor([len(query.prompt) for query in queries])[:, None]
        ends = lengths + torch.tensor([len(label) - 1 for label in labels])[:, None]
        place = torch.arange(ids.shape[1])
        needed = (place >= lengths) & (place < ends)
        if not needed.any():
            continue
        with logits_at(model, needed.to(model.device)):
            output = model(input_ids=ids.to(model.device), use_cache=False)
        for row, value in zip(sums, _sums(output.logits, [label[1:] for label in labels]), strict=True):
            row[choice] += value


def _can_reuse_cache(model: Any, length: int) -> bool:
    """Whether labels can follow cached prompts of several lengths, up to a total length.

    The model must take the tokens' positions, or derive them from the mask. A sliding window counts the padding
    between prompt and label, so that all of it must fit inside the window.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window and length >= window:
        return False
    return _takes(model, "past_key_values") and (_takes(model, "position_ids") or config.model_type == "bloom")


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


def _first_tokens(logits: Tensor, queries: Sequence[Query]) -> list[list[float]]:
    """By query and label, the log-likelihood of the label's first token; `logits` [batch, vocabulary]."""
    tokens = torch.tensor([[label[0] for label in query.labels] for query in queries], device=logits.device)
    return _token_log_likelihoods(logits, tokens).tolist()


def _sums(logits: Tensor, rows: Sequence[Sequence[int]], *, skip_last: bool = False) -> list[float]:
    """The summed log-likelihood of each row of tokens; `logits` [all tokens of all rows, vocabulary]."""
    tokens = torch.tensor([token for row in rows for token in row], device=logits.device)
    values = torch.split(_token_log_likelihoods(logits, tokens[:, None])[:, 0].cpu(), [len(row) for row in rows])
    return [float(row[:-1].sum() if skip_last else row.sum()) for row in values]


def _token_log_likelihoods(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-likelihoods [n, k] of tokens [n, k] under logits [n, vocabulary]."""
    logits = logits.float()
    return (logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)).double()


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Token ids [batch, longest], padded on the right with 0; outputs there are never read."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
