"""The log-likelihood of labels given a prompt.

A prompt runs through the model once, whatever the number of labels: its last token gives the likelihood of
every label's first token. The longest label runs behind it in the same pass, and the prompt's key/value cache
(or the encoder's output) serves for the others' later tokens. A prefix that all prompts of a batch share runs
once for all, and a long one, such as the examples of a few-shot prompt, once for all batches (`plan_prefixes`).
The output layer runs only where a logit is needed.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instructalign.evaluation.prompting import Query
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.models import LoadedModel, logits_at

_SHARED = 8  # tokens that a prefix must have, and prompts that must share it, for running it once to pay
_SAVED = 256  # tokens that a prefix run once for several batches must save
_CACHED = 8  # times the tokens of a batch that the cache of all its rows may hold, the prefix included

CPU_BATCH_TOKENS = 1024
"""Tokens per batch above which a CPU only gets slower, since its caches no longer hold the batch."""


class Likelihoods(NamedTuple):
    """The log-likelihoods of one query, in nats.

    Attributes:
        labels: by label, the sum over its tokens given the prompt.
        prompt: the sum over the prompt's tokens after the first; None where it is not needed.
        greedy: by label, whether each of its tokens is the likeliest one; empty where it is not needed.
    """

    labels: Sequence[float]
    prompt: float | None = None
    greedy: Sequence[bool] = ()


class Prefix(NamedTuple):
    """The tokens that several prompts begin with, run through the model.

    Attributes:
        length: how many they are.
        cache: their key/value cache, of one row.
    """

    length: int
    cache: Any


def plan_batches(queries: Sequence[Query], batch_tokens: int, *, answers: bool = False) -> list[list[int]]:
    """Groups queries that share a prefix and have about the same length, the longest first.

    Args:
        queries: any number.
        batch_tokens: prompt tokens per batch, padding included; a longer prompt has a batch to itself.
        answers: whether the tokens of the longest answer count as well.

    Returns:
        The indices of the queries in each batch; the same for the same queries.
    """
    heads = [query.prompt[:_SHARED] for query in queries]
    often = {head for head, count in Counter(heads).items() if count >= _SHARED and len(head) == _SHARED}
    groups = [head if head in often else () for head in heads]
    lengths = [len(query.prompt) + (max(map(len, query.labels)) if answers else 0) for query in queries]
    order = sorted(range(len(queries)), key=lambda index: (groups[index], -lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        first = batches[-1][0] if batches else index
        fits = lengths[first] * (len(batches[-1]) + 1 if batches else 1) <= batch_tokens
        if batches and fits and groups[first] == groups[index]:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def plan_prefixes(
    loaded: LoadedModel, queries: Sequence[Query], batch_tokens: int
) -> list[tuple[int, list[list[int]]]]:
    """Groups queries whose prompts begin with the same long prefix, so that it runs once for all of them.

    Few-shot prompts share their examples, and questions about one passage share it. The prefix does not count as
    tokens of a batch.

    Args:
        loaded: the model; one that cannot continue a cache gets no prefixes.
        queries: any number.
        batch_tokens: as in `plan_batches`.

    Returns:
        By group, how many tokens its prefix has (0 where none is shared), and the group's batches of indices.
    """
    rows = [query.prompt for query in queries]
    longest = max((len(q.prompt) + max(map(len, q.labels)) for q in queries), default=0)
    if loaded.encoder_decoder or not _can_reuse_cache(loaded.model, longest):
        return [(0, plan_batches(queries, batch_tokens))] if queries else []
    order = sorted(range(len(rows)), key=lambda index: rows[index])
    # What each prompt has in common with the one before it; every prompt keeps a token of its own.
    alike = [0, *(_common(rows[one][:-1], rows[other][:-1]) for one, other in pairwise(order)), 0]
    groups: list[tuple[int, list[int]]] = []
    for place, index in enumerate(order):
        # A group ends where so little is in common that its prefix, or that of the next one, would be halved.
        if not groups or 2 * alike[place] < max(alike[place - 1 : place + 2]):
            groups.append((len(rows[index]), [index]))
        else:
            length, members = groups[-1]
            groups[-1] = min(length, alike[place]), [*members, index]
    shared = [(length, some) for length, some in groups if length * (len(some) - 1) >= _SAVED]
    inside = {index for _, some in shared for index in some}
    alone = [index for index in range(len(rows)) if index not in inside]
    found = []
    for length, members in ((0, sorted(alone)), *shared):
        own = [Query(queries[index].prompt[length:], queries[index].labels) for index in members]
        batches = [[members[place] for place in batch] for batch in plan_batches(own, batch_tokens)]
        if length:
            most = max(1, _CACHED * batch_tokens // max(len(rows[index]) for index in members))
            batches = [batch[start : start + most] for batch in batches for start in range(0, len(batch), most)]
        if batches:
            found.append((length, batches))
    return found


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def run_prefix(loaded: LoadedModel, tokens: Sequence[int]) -> Prefix:
    """Runs a prefix that several batches share (see `plan_prefixes`)."""
    with fast_inference(loaded.model):
        return Prefix(len(tokens), _prefix_cache(loaded.model, tokens))


def score_batch(
    loaded: LoadedModel,
    queries: Sequence[Query],
    *,
    prompts: bool = False,
    greedy: bool = False,
    prefix: Prefix | None = None,
) -> list[Likelihoods]:
    """Scores queries that go through the model together.

    Args:
        loaded: the model.
        queries: at least one.
        prompts: whether the likelihood of the prompts is needed too (not for encoder-decoder models).
        greedy: whether it is needed which labels greedy decoding would write.
        prefix: what all of the prompts begin with, where that has been run.
    """
    model: Any = loaded.model
    totals = _Totals(queries, greedy)
    with fast_inference(model, float32_logits=True):
        if loaded.encoder_decoder:
            return _score_decoder(model, queries, totals)
        return _score_sequence(model, queries, totals, prompts=prompts, prefix=prefix)


def score_continuations(
    loaded: LoadedModel, queries: Sequence[Query], *, greedy: bool = False
) -> list[Likelihoods]:
    """`score_batch` for queries with one label each: prompt and label go through the model as one sequence.

    Faster than a cache where a label is long and its prompt is no other's. Not for encoder-decoder models.
    """
    totals = _Totals(queries, greedy)
    with fast_inference(loaded.model, float32_logits=True):
        _add_whole(loaded.model, queries, totals, 0, skip=0)
    return totals.likelihoods([None] * len(queries))


class _Totals:
    """By query and label, what its tokens so far amount to.

    Args:
        queries: the batch.
        greedy: whether likeliest tokens are looked for.
    """

    def __init__(self, queries: Sequence[Query], greedy: bool) -> None:
        self._sums = [[0.0] * len(query.labels) for query in queries]
        self._greedy = [[True] * len(query.labels) for query in queries] if greedy else None

    def add_first(self, logits: Tensor, queries: Sequence[Query]) -> None:
        """Adds the first token of every label, from the logits [batch, vocabulary] behind the prompts."""
        ids = _pad([[label[0] for label in query.labels] for query in queries]).to(logits.device)
        values = _token_log_likelihoods(logits, ids).tolist()
        best = (ids == logits.argmax(1, keepdim=True)).tolist() if self._greedy is not None else None
        for row, sums in enumerate(self._sums):
            sums[:] = values[row][: len(sums)]
            if self._greedy is not None and best is not None:
                self._greedy[row] = best[row][: len(sums)]

    def add(self, choice: int, logits: Tensor, rows: Sequence[Sequence[int]]) -> None:
        """Adds tokens of one label of each query, from the logits [all tokens of all rows, vocabulary]."""
        for sums, value, row in zip(self._sums, _sums(logits, rows), rows, strict=True):
            if row:
                sums[choice] += value
        if self._greedy is None:
            return
        ids = torch.tensor([token for row in rows for token in row], device=logits.device)
        hits = torch.split((ids == logits.argmax(1)).cpu(), [len(row) for row in rows])
        for greedy, hit in zip(self._greedy, hits, strict=True):
            if len(hit):
                greedy[choice] = greedy[choice] and bool(hit.all())

    def likelihoods(self, prompts: Sequence[float | None]) -> list[Likelihoods]:
        """The outcome, with the likelihoods of the prompts."""
        greedy = self._greedy or [[] for _ in self._sums]
        return [
            Likelihoods(tuple(sums), prompt, tuple(hits))
            for sums, prompt, hits in zip(self._sums, prompts, greedy, strict=True)
        ]


def _score_sequence(
    model: Any, queries: Sequence[Query], totals: _Totals, *, prompts: bool, prefix: Prefix | None
) -> list[Likelihoods]:
    """Decoder-only models: prompt and label are one sequence.

    The longest label runs behind its prompt in the same pass; others of several tokens need a cache.
    """
    lengths = torch.tensor([len(query.prompt) for query in queries])
    later = [sum(len(label) - 1 for label in _labels(queries, c) if label) for c in range(_most_labels(queries))]
    inside = None if prompts or not any(later) else later.index(max(later))
    labels = [()] * len(queries) if inside is None else _labels(queries, inside)
    rows = [(*query.prompt, *label[:-1]) for query, label in zip(queries, labels, strict=True)]
    width = max(map(len, rows))
    others = [choice for choice, tokens in enumerate(later) if tokens and choice != inside]
    rest = max((len(label) - 1 for choice in others for label in _labels(queries, choice)), default=0)
    reusable = _can_reuse_cache(model, width + rest)
    shared, cache = 0, None
    if prefix is not None:
        shared, cache = prefix.length, copy.deepcopy(prefix.cache)
        cache.batch_repeat_interleave(len(queries))
    elif reusable and not prompts:
        shared, cache = _run_shared_prefix(model, queries)
    ids = _pad([row[shared:] for row in rows])
    positions = torch.arange(shared, width)
    counts = torch.tensor([max(1, len(label)) for label in labels])  # logits of each row
    needed = positions < lengths[:, None] - 1 + counts[:, None]
    if not prompts:
        needed &= positions >= lengths[:, None] - 1
    # Padding is on the right, where causal attention cannot see it: no mask is needed.
    with logits_at(model, needed.to(model.device)):
        output = model(
            input_ids=ids.to(model.device),
            past_key_values=cache,
            use_cache=shared > 0 or (bool(others) and reusable),
        )
    # The first token of every label is predicted at its prompt's last one.
    first = (needed.sum(dim=1).cumsum(0) - counts).to(model.device)
    totals.add_first(output.logits[first], queries)
    prompt_sums: list[float | None] = [None] * len(queries)
    if prompts:
        # The logits at a prompt's last token belong to the label: they are paired with any token and left out.
        prompt_sums[:] = _sums(output.logits, [(*query.prompt[1:], 0) for query in queries], skip_last=True)
    if inside is not None:
        behind = torch.ones(len(output.logits), dtype=torch.bool, device=model.device)
        behind[first] = False
        totals.add(inside, output.logits[behind], [label[1:] for label in labels])
    if reusable:
        mask = torch.arange(width) < lengths[:, None]
        _add_later_tokens(model, queries, totals, others, output.past_key_values, mask, lengths)
    else:
        for choice in others:
            _add_whole(model, queries, totals, choice, skip=1)
    return totals.likelihoods(prompt_sums)


def _most_labels(queries: Sequence[Query]) -> int:
    return max(len(query.labels) for query in queries)


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
    cache = _prefix_cache(model, rows[0][:length])
    cache.batch_repeat_interleave(len(queries))
    return length, cache


def _prefix_cache(model: Any, tokens: Sequence[int]) -> Any:
    """The key/value cache of some tokens, of one row."""
    ids = torch.tensor([list(tokens)], device=model.device)
    with logits_at(model, torch.zeros_like(ids, dtype=torch.bool)):
        return model(input_ids=ids, use_cache=True).past_key_values


def _score_decoder(model: Any, queries: Sequence[Query], totals: _Totals) -> list[Likelihoods]:
    """Encoder-decoder models: the prompt is the encoder's, the label the decoder's."""
    ids = _pad([query.prompt for query in queries]).to(model.device)
    lengths = torch.tensor([len(query.prompt) for query in queries], device=model.device)
    mask = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
    later = [c for c in range(_most_labels(queries)) if any(len(label) > 1 for label in _labels(queries, c))]
    start = torch.full((len(queries), 1), model.config.decoder_start_token_id, device=model.device)
    output = model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=start, use_cache=bool(later))
    totals.add_first(output.logits[:, -1], queries)
    if later:
        inputs = {"encoder_outputs": (output.encoder_last_hidden_state,), "attention_mask": mask.long()}
        _add_later_tokens(model, queries, totals, later, output.past_key_values, None, None, **inputs)
    return totals.likelihoods([None] * len(queries))


def _add_later_tokens(
    model: Any,
    queries: Sequence[Query],
    totals: _Totals,
    choices: Sequence[int],
    cache: Any,
    mask: Tensor | None,
    lengths: Tensor | None,
    **inputs: Any,
) -> None:
    """Adds the log-likelihood of the labels' tokens after the first, label by label, with the prompts' cache.

    Args:
        model: the model.
        queries: the batch.
        totals: what they are added to.
        choices: the labels, as places in each query's list.
        cache: key/value cache of the prompts; left as it was found.
        mask: bool [batch, seq], which positions of the cache hold a token; None for encoder-decoder models.
        lengths: [batch], the prompts' lengths; None for encoder-decoder models.
        inputs: further arguments of the model's call.
    """
    for choice in choices:
        labels = _labels(queries, choice)
        width = max(map(len, labels)) - 1
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
        totals.add(choice, output.logits, [label[1:] for label in labels])
        cache.crop(-width)


def _add_whole(model: Any, queries: Sequence[Query], totals: _Totals, choice: int, *, skip: int) -> None:
    """Adds one label's tokens after the first `skip`, by running it with its prompt and without a cache."""
    labels = _labels(queries, choice)
    ids = _pad([(*query.prompt, *label[:-1]) for query, label in zip(queries, labels, strict=True)])
    begins = torch.tensor([len(query.prompt) - 1 for query in queries])[:, None]
    ends = begins + torch.tensor([len(label) for label in labels])[:, None]
    place = torch.arange(ids.shape[1])
    needed = (place >= begins + skip) & (place < ends)
    if not needed.any():
        return
    with logits_at(model, needed.to(model.device)):
        output = model(input_ids=ids.to(model.device), use_cache=False)
    totals.add(choice, output.logits, [label[skip:] for label in labels])


def _labels(queries: Sequence[Query], choice: int) -> list[tuple[int, ...]]:
    """One label of each query; empty where a query has fewer."""
    return [query.labels[choice] if choice < len(query.labels) else () for query in queries]


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
