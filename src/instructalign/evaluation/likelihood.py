"""The likelihood of labels under a prompt.

The tokens of a prompt run through the model once, whatever the number of labels: the last of them gives the
likelihood of every label's first token, and what the model keeps of the prompt (its key/value cache, or the
encoder's output) serves for the tokens behind. What the prompts of a batch begin with runs once for all. The
output layer runs only where a logit is needed.
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

ALIKE = 8
"""Tokens that prompts must have in common at their beginning, and prompts that must have them, for it to pay
to run the beginning once for all."""

CPU_BATCH_TOKENS = 1024
"""Tokens of a batch above which a processor only gets slower, since its caches no longer hold the batch."""


class Likelihoods(NamedTuple):
    """The log-likelihoods of one query, in nats.

    Attributes:
        labels: by label, the sum over its tokens given the prompt.
        prompt: the sum over the prompt's tokens after the first; None where it is not needed.
    """

    labels: Sequence[float]
    prompt: float | None = None


def plan_batches(queries: Sequence[Query], batch_tokens: int) -> list[list[int]]:
    """Puts queries together that begin alike and have about the same length, the longest first.

    Args:
        queries: any number.
        batch_tokens: prompt tokens that a batch may have, padding included; a longer prompt stands alone.

    Returns:
        The indices of the queries in each batch; the same for the same queries.
    """
    heads = [query.prompt[:ALIKE] for query in queries]
    often = {head for head, count in Counter(heads).items() if count >= ALIKE and len(head) == ALIKE}
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
        prompts: whether the likelihood of the prompts is wanted too (not for encoder-decoder models).
    """
    model: Any = loaded.model
    with fast_inference(model, float32_logits=True):
        if loaded.encoder_decoder:
            return _score_decoder(model, queries)
        return _score_sequence(model, queries, prompts=prompts)


def _score_sequence(model: Any, queries: Sequence[Query], *, prompts: bool) -> list[Likelihoods]:
    """Decoder-only models: prompt and label are one sequence."""
    lengths = torch.tensor([len(query.prompt) for query in queries])
    more = max(len(label) for query in queries for label in query.labels) - 1
    keeps = _keeps_prompts(model, int(lengths.max()) + more)
    begun, cache = _run_beginning(model, queries) if keeps and not prompts else (0, None)
    ids = _pad([query.prompt[begun:] for query in queries])
    place = torch.arange(begun, int(lengths.max()))
    wanted = place < lengths[:, None] if prompts else place == lengths[:, None] - 1
    kept = begun > 0 or (more > 0 and keeps)
    # Padding stands at the right, where causal attention cannot see it: no mask is needed.
    with logits_at(model, wanted.to(model.device)):
        output = model(input_ids=ids.to(model.device), past_key_values=cache, use_cache=kept)
    last = output.logits[wanted.sum(dim=1).cumsum(0).to(model.device) - 1] if prompts else output.logits
    sums = _first_tokens(last, queries)
    befores = [None] * len(queries) if not prompts else _prompt_sums(output.logits, queries)
    if more > 0 and keeps:
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        _add_rest(model, queries, sums, output.past_key_values, mask, lengths)
    elif more > 0:
        _add_rest_anew(model, queries, sums)
    return [Likelihoods(tuple(row), before) for row, before in zip(sums, befores, strict=True)]


def _run_beginning(model: Any, queries: Sequence[Query]) -> tuple[int, Any]:
    """Runs what all prompts begin with once for all: its length in tokens, and what the model kept of it.

    Prompts share a beginning where the question stands before the item's text, or a chat's system turn before
    both. Every prompt keeps at least one token of its own.
    """
    rows = [query.prompt[:-1] for query in queries]
    columns = zip(*rows, strict=False)
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    if len(queries) == 1 or alike < ALIKE:
        return 0, None
    ids = torch.tensor([rows[0][:alike]], device=model.device)
    with logits_at(model, torch.zeros_like(ids, dtype=torch.bool)):
        cache = model(input_ids=ids, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(queries))
    return alike, cache


def _score_decoder(model: Any, queries: Sequence[Query]) -> list[Likelihoods]:
    """Encoder-decoder models: the prompt is the encoder's, the label the decoder's."""
    ids = _pad([query.prompt for query in queries]).to(model.device)
    lengths = torch.tensor([len(query.prompt) for query in queries], device=model.device)
    mask = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
    more = max(len(label) for query in queries for label in query.labels) - 1
    start = torch.full((len(queries), 1), model.config.decoder_start_token_id, device=model.device)
    output = model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=start, use_cache=more > 0)
    sums = _first_tokens(output.logits[:, -1], queries)
    if more > 0:
        encoded = (output.encoder_last_hidden_state,)
        inputs = {"encoder_outputs": encoded, "attention_mask": mask.long()}
        _add_rest(model, queries, sums, output.past_key_values, None, None, **inputs)
    return [Likelihoods(tuple(row)) for row in sums]


def _add_rest(
    model: Any,
    queries: Sequence[Query],
    sums: list[list[float]],
    cache: Any,
    mask: Tensor | None,
    lengths: Tensor | None,
    **inputs: Any,
) -> None:
    """Adds the log-likelihood of the labels' tokens behind the first, label by label, on a kept prompt.

    Args:
        model: the model.
        queries: the batch.
        sums: by query and label, what there is already; added to in place.
        cache: what the model kept of the prompts; left as it was found.
        mask: bool [batch, seq], which of the cache's places hold a token; None for encoder-decoder models.
        lengths: [batch], the prompts' lengths; None for encoder-decoder models.
        inputs: what else the model is called with.
    """
    for choice in range(len(queries[0].labels)):
        labels = [query.labels[choice] for query in queries]
        width = max(map(len, labels)) - 1
        if width == 0:
            continue
        ids = _pad([label[:-1] for label in labels])
        place = torch.arange(width)
        wanted = place < torch.tensor([len(label) - 1 for label in labels])[:, None]
        call = dict(inputs)
        if mask is None or lengths is None:
            call["decoder_input_ids"] = ids.to(model.device)
        else:
            call["input_ids"] = ids.to(model.device)
            call["attention_mask"] = torch.cat([mask, torch.ones_like(ids).bool()], 1).long().to(model.device)
            if _takes(model, "position_ids"):
                call["position_ids"] = (lengths[:, None] + place).to(model.device)
        with logits_at(model, wanted.to(model.device)):
            output = model(past_key_values=cache, use_cache=True, **call)
        for row, more in zip(sums, _sums(output.logits, [label[1:] for label in labels]), strict=True):
            row[choice] += more
        cache.crop(-width)


def _add_rest_anew(model: Any, queries: Sequence[Query], sums: list[list[float]]) -> None:
    """`_add_rest` for models that cannot go on from a kept prompt: the prompt runs again for each label."""
    for choice in range(len(queries[0].labels)):
        labels = [query.labels[choice] for query in queries]
        ids = _pad([(*query.prompt, *label[:-1]) for query, label in zip(queries, labels, strict=True)])
        lengths = torch.tensor([len(query.prompt) for query in queries])[:, None]
        ends = lengths + torch.tensor([len(label) - 1 for label in labels])[:, None]
        place = torch.arange(ids.shape[1])
        wanted = (place >= lengths) & (place < ends)
        if not wanted.any():
            continue
        with logits_at(model, wanted.to(model.device)):
            output = model(input_ids=ids.to(model.device), use_cache=False)
        for row, more in zip(sums, _sums(output.logits, [label[1:] for label in labels]), strict=True):
            row[choice] += more


def _keeps_prompts(model: Any, length: int) -> bool:
    """Whether labels can go on from kept prompts of several lengths, up to a total length.

    Needed is a model that is told, or works out of the mask, where a token stands. A sliding window counts
    the padding between prompt and label, so that all must lie inside it.
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
    return _chances(logits, tokens).tolist()


def _prompt_sums(logits: Tensor, queries: Sequence[Query]) -> list[float | None]:
    """The log-likelihood of each prompt behind its first token; `logits` [all prompt tokens, vocabulary]."""
    # The logits at a prompt's last token speak of the label; they are paired with any token and left out.
    sums = _sums(logits, [(*query.prompt[1:], 0) for query in queries], skip_last=True)
    return list(sums)


def _sums(logits: Tensor, rows: Sequence[Sequence[int]], *, skip_last: bool = False) -> list[float]:
    """The summed log-likelihood of each row of tokens; `logits` [all tokens of all rows, vocabulary]."""
    tokens = torch.tensor([token for row in rows for token in row], device=logits.device)
    chances = torch.split(_chances(logits, tokens[:, None])[:, 0].cpu(), [len(row) for row in rows])
    return [float(row[:-1].sum() if skip_last else row.sum()) for row in chances]


def _chances(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-likelihoods [n, k] of tokens [n, k] under logits [n, vocabulary]."""
    logits = logits.float()
    return (logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)).double()


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Token ids [batch, longest], filled up at the right with 0, whose outputs nobody reads."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
