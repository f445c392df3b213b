"""Text generation: batches of prompts, decoded greedily or by sampling that depends on nothing but its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from instructalign.errors import DataError, ModelError
from instructalign.progress import Progress, silent
from instructalign.randomness import Draws
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.models import LoadedModel


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is sampled; without it, decoding is greedy.

    Attributes:
        key: of the random numbers (`randomness.digest_key`).
        temperature: the logits are divided by it.
        top_k: only the most likely tokens are sampled from; None for all.
    """

    key: bytes
    temperature: float = 1.0
    top_k: int | None = 50


@dataclass(frozen=True, slots=True)
class Generated:
    """The continuation of one prompt.

    Attributes:
        tokens: ids of the new tokens, without the one that ends the text.
        finished: whether the model ended the text by itself.
        likelihood: the mean log-likelihood of a new token, that of the end included, in nats; 0 if none.
    """

    tokens: list[int]
    finished: bool
    likelihood: float = 0.0


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    batch_tokens: int,
    *,
    sampling: Sampling | None = None,
    streams: Sequence[int] = (),
    stops: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Generated]:
    """Continues prompts, with the likelihood of each continuation.

    Args:
        loaded: the model.
        prompts: as token ids.
        max_new_tokens: the longest continuation, of all or of each prompt.
        batch_tokens: tokens per batch, new ones included.
        sampling: how tokens are sampled; greedy decoding if None.
        streams: by prompt, the number of its stream of random numbers.
        stops: strings with which a continuation may end.
        progress: reports the number of prompts done.

    Raises:
        DataError: a prompt leaves no room in the model's context.
    """
    results: dict[int, Generated] = {}
    limits = _limits(max_new_tokens, len(prompts))
    for batch in plan_generation(loaded, prompts, max_new_tokens, batch_tokens):
        chooser = TokenChooser(sampling, [streams[index] for index in batch] if streams else [0] * len(batch))
        chosen, most = [prompts[index] for index in batch], [limits[index] for index in batch]
        written = generate_batch(loaded, chosen, most, chooser=chooser, stops=stops)
        results.update(zip(batch, written, strict=True))
        progress("generating", len(results), len(prompts), "")
    return [results[index] for index in range(len(prompts))]


def plan_generation(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int | Sequence[int], batch_tokens: int
) -> list[list[int]]:
    """Batches of prompts that take about as long, the longest first; indices into `prompts`.

    Args:
        loaded: the model.
        prompts: as token ids.
        max_new_tokens: the longest continuation, of all or of each prompt.
        batch_tokens: tokens per batch, new ones included.

    Raises:
        DataError: a prompt leaves no room in the model's context.
    """
    limits = _limits(max_new_tokens, len(prompts))
    rooms = [_room(loaded, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    batches: list[list[int]] = []
    longest = most = 0
    # A step of a batch costs the same whoever still needs it: those of about the same limit end together.
    for index in sorted(range(len(prompts)), key=lambda index: (-limits[index], -len(prompts[index]), index)):
        longest, most = max(longest, len(prompts[index])), max(most, rooms[index])
        if not batches or (len(batches[-1]) + 1) * (longest + most) > batch_tokens:
            batches.append([])
            longest, most = len(prompts[index]), rooms[index]
        batches[-1].append(index)
    return batches


def _limits(max_new_tokens: int | Sequence[int], count: int) -> list[int]:
    return [max_new_tokens] * count if isinstance(max_new_tokens, int) else list(max_new_tokens)


def _room(loaded: LoadedModel, prompt: Sequence[int], max_new_tokens: int) -> int:
    """How many tokens may follow a prompt; an encoder-decoder model counts them apart from it."""
    context = None if loaded.encoder_decoder else loaded.codec.context
    room = max_new_tokens if context is None else min(max_new_tokens, context - len(prompt))
    if room < 1:
        raise DataError(
            f"a prompt of {len(prompt)} tokens leaves no room in the model's context of {context}: "
            f"{loaded.tokenizer.decode(list(prompt))[:60]}…"
        )
    return room


def generate_batch(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    *,
    chooser: TokenChooser | None = None,
    stops: Sequence[str] = (),
    watch: Callable[[list[int]], bool] | None = None,
) -> list[Generated]:
    """Continues prompts together.

    Args:
        loaded: the model.
        prompts: as token ids.
        max_new_tokens: the longest continuation, of all or of each prompt; shorter where the longest prompt
            leaves less room.
        chooser: chooses the tokens and keeps their likelihood; plain greedy decoding if None.
        stops: strings that may end a continuation, as `LINE_END`; see `decode_until`.
        watch: called after each step with the new tokens of the first prompt; generation stops where it says so.
    """
    model: Any = loaded.model
    longest = max(prompts, key=len)
    ids = torch.zeros((len(prompts), len(longest)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        # A decoder continues after the last position, so that its padding is on the left.
        where = slice(0, len(prompt)) if loaded.encoder_decoder else slice(len(longest) - len(prompt), None)
        ids[row, where] = torch.tensor(prompt)
        mask[row, where] = 1
    ends = _ends(loaded)
    limits = _limits(max_new_tokens, len(prompts))
    begin = 1 if loaded.encoder_decoder else len(longest)  # place of the first new token
    until: _LineEnds | StopStrings | None = None
    if tuple(stops) == LINE_END:
        until = _LineEnds(loaded.tokenizer, len(prompts))
    elif stops:
        until = StopStrings(loaded.tokenizer, stops, begin, after_words=True)
    stopping: list[StoppingCriteria] = [until] if until else []
    if min(limits) < max(limits):
        stopping.append(_RowLimits(limits))
    if watch:
        stopping.append(_Watch(watch, begin))
    with fast_inference(model):
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=_room(loaded, longest, max(limits)),
            do_sample=False,
            num_beams=1,
            logits_processor=LogitsProcessorList([chooser] if chooser else []),
            eos_token_id=sorted(ends) or None,
            pad_token_id=loaded.tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList(stopping),
        )
    continuations = output[:, begin:]
    steps = [step.tolist() for step in chooser.likelihoods] if chooser else []
    results = []
    for row, (new, limit) in enumerate(zip(continuations.tolist(), limits, strict=True)):
        # Padding follows, and counts for nothing in the likelihood.
        tokens = new[: min(limit, until.steps[row]) if until else limit]
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        values = [step[row] for step in steps[: len(tokens) if stop is None else stop + 1]]
        results.append(Generated(tokens[:stop], stop is not None, sum(values) / max(1, len(values))))
    return results


def _ends(loaded: LoadedModel) -> set[int]:
    """The tokens that end a text, by the tokenizer and by the model's generation settings."""
    model: Any = loaded.model
    listed = model.generation_config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    return {
        int(token) for token in (loaded.codec.end, loaded.tokenizer.eos_token_id, *listed) if token is not None
    }


LINE_END = ("\n",)
"""What ends a continuation of one line."""


def decode_until(tokenizer: Any, generated: Generated, stops: Sequence[str] = LINE_END) -> tuple[str, bool]:
    """A continuation up to the first of some strings, and whether it is unfinished: neither they nor it ended it.

    White space before its first word is no end.
    """
    text = str(tokenizer.decode(generated.tokens, skip_special_tokens=True)).lstrip()
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends)].strip() if ends else text.strip(), not (generated.finished or ends)


class _LineEnds(StoppingCriteria):
    """Stops a row once its first line is complete, since what follows is not read.

    Args:
        tokenizer: decodes tokens.
        rows: the batch size.
    """

    def __init__(self, tokenizer: Any, rows: int) -> None:
        self._tokenizer = tokenizer
        self._begun, self._ended = [False] * rows, [False] * rows
        self.steps = [0] * rows  # the tokens of each row up to the end of its line
        self._texts: dict[int, str] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended, from the last token of each; `input_ids` [batch, seq]."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            self.steps[row] += not self._ended[row]
            if token not in self._texts:
                self._texts[token] = str(self._tokenizer.decode([token], skip_special_tokens=True))
            # Line ends before the first word do not end the line.
            text = self._texts[token] if self._begun[row] else self._texts[token].lstrip()
            self._begun[row] = self._begun[row] or bool(text)
            self._ended[row] = self._ended[row] or "\n" in text
        return torch.tensor(self._ended, device=input_ids.device)


class StopStrings(StoppingCriteria):
    """Ends each row where its text has a stop string, without waiting for the other rows of the batch.

    Args:
        tokenizer: decodes tokens.
        stops: the strings.
        begin: place of the first generated token.
        after_words: whether white space before the first word is no part of the text.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], begin: int, *, after_words: bool = False) -> None:
        self._tokenizer, self._begin, self._after_words = tokenizer, begin, after_words
        self._stops = [stop for stop in stops if stop]
        # Two tokens more than a stop string has, since the model may write it in others.
        lengths = [len(tokenizer.encode(stop, add_special_tokens=False)) for stop in self._stops]
        self._window = max(lengths, default=0) + 2
        self._first: dict[int, int] = {}  # by row, how long it was when it had its first word
        self.steps: list[int] = []  # the tokens of each row up to the end of its stop string
        self._ended: list[bool] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended; `input_ids` [batch, seq]."""
        start = max(self._begin, input_ids.shape[1] - self._window)
        texts = self._tokenizer.batch_decode(input_ids[:, start:])
        if self._after_words:
            for row, text in enumerate(texts):
                if text.strip():
                    self._first.setdefault(row, input_ids.shape[1])
                if self._first.get(row, start + 1) > start:
                    texts[row] = text.lstrip()
        self._ended = self._ended or [False] * len(texts)
        self.steps = [
            steps + (not ended) for steps, ended in zip(self.steps or [0] * len(texts), self._ended, strict=True)
        ]
        self._ended = [
            ended or any(stop in text for stop in self._stops)
            for ended, text in zip(self._ended, texts, strict=True)
        ]
        return torch.tensor(self._ended, device=input_ids.device)


class _RowLimits(StoppingCriteria):
    """Stops each row after a number of tokens of its own."""

    def __init__(self, limits: Sequence[int]) -> None:
        self._limits, self._steps = torch.tensor(limits), 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended."""
        self._steps += 1
        return (self._limits <= self._steps).to(input_ids.device)


class _Watch(StoppingCriteria):
    """Stops where a function of the first row's new tokens, from place `begin` on, says so."""

    def __init__(self, watch: Callable[[list[int]], bool], begin: int) -> None:
        self._watch, self._begin = watch, begin

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended: all or none."""
        stop = self._watch(input_ids[0, self._begin :].tolist())
        return torch.full((len(input_ids),), stop, device=input_ids.device)


class TokenChooser(LogitsProcessor):
    """Chooses each next token itself, leaving no other, and keeps its log-likelihood.

    A sample from the softmax is the maximum of logits with Gumbel noise (Maddison, Tarlow and Minka 2014, "A*
    Sampling"). The noise is a function of key, stream and position, so that a text depends neither on the other
    rows of its batch nor on earlier batches. From the whole vocabulary, the inverse of the cumulative distribution
    takes one number per token.
    """

    def __init__(self, sampling: Sampling | None, streams: Sequence[int]) -> None:
        self._sampling = sampling
        self._streams = streams
        self.likelihoods: list[torch.Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores [batch, vocabulary] with one token left in each row."""
        chosen = self._sample(scores, self._sampling) if self._sampling else scores.argmax(dim=-1, keepdim=True)
        self.likelihoods.append(torch.log_softmax(scores.float(), dim=-1).gather(1, chosen)[:, 0])
        return torch.full_like(scores, float("-inf")).scatter(1, chosen, 0.0)

    def _sample(self, scores: Any, sampling: Sampling) -> Any:
        step = len(self.likelihoods)
        if sampling.top_k is None:
            sums = (scores.double() / sampling.temperature).softmax(dim=-1).cumsum(dim=-1)
            drawn = [[Draws(sampling.key, stream << 20 | step).uniform()] for stream in self._streams]
            # The last sum is 1 but for rounding; `right` never takes a token of probability 0.
            below = torch.tensor(drawn, dtype=sums.dtype, device=sums.device) * sums[:, -1:]
            return torch.searchsorted(sums, below, right=True).clamp_(max=scores.shape[-1] - 1)
        count = min(sampling.top_k, scores.shape[-1])
        values, tokens = scores.float().topk(count, dim=-1)
        bits = [Draws(sampling.key, stream << 20 | step).many(count) for stream in self._streams]
        noise = [[-log(-log((each + 0.5) / 2**32)) for each in row] for row in bits]
        noisy = values / sampling.temperature + torch.tensor(noise, device=scores.device)
        return tokens.gather(1, noisy.argmax(dim=-1, keepdim=True))


# -- continuous batching -----------------------------------------------------------------------------------


def check_continuous(loaded: LoadedModel) -> None:
    """Raises a ModelError where continuous batching would refuse a model, or give other texts than `generate`."""
    model: Any = loaded.model
    if loaded.encoder_decoder:
        reason = "it has an encoder and a decoder"
    elif not model.is_backend_compatible():
        reason = "its attention cannot use a paged cache"
    elif (model.generation_config.repetition_penalty or 1.0) != 1.0:
        reason = "its generation settings have a repetition penalty"
    else:
        return
    raise ModelError(
        f"evaluation.engine: continuous batching does not support {model.config.model_type} here: {reason}. Set "
        "evaluation.engine to transformers."
    )


def generate_lines_continuously(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int | Sequence[int]
) -> list[Generated]:
    """Continues prompts greedily up to the end of their first line, by transformers' continuous batching.

    A row that has ended gives its place to the next prompt at once, instead of waiting for the longest of its
    batch. The texts are those of `generate_batch`, but for rounding in half precision. For GPUs; it runs on CPUs
    as well, slowly. See `check_continuous` for the models that it can run.
    """
    from transformers import ContinuousBatchingConfig

    model: Any = loaded.model
    ends = _ends(loaded)
    stops = sorted(ends | _line_end_tokens(loaded.tokenizer)) or [-1]
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=stops, pad_token_id=loaded.tokenizer.pad_token_id
    )
    limits = _limits(max_new_tokens, len(prompts))
    # The cache of a CPU would take most of its memory: a block is 256 tokens, and the last one is shared by none.
    blocks = None
    if model.device.type == "cpu":
        blocks = sum((len(p) + limit) // 256 + 2 for p, limit in zip(prompts, limits, strict=True))
    batching = ContinuousBatchingConfig(num_blocks=blocks, auto_switch_to_flash=False)
    tokens: list[list[int]] = [[] for _ in prompts]
    rooms = [_room(loaded, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    with (
        fast_inference(model),
        model.continuous_batching_context_manager(
            generation_config=settings, continuous_batching_config=batching, timeout=5, warmup=blocks is None
        ) as manager,
    ):
        waiting = {manager.add_request([*p], max_new_tokens=rooms[row]): row for row, p in enumerate(prompts)}
        while waiting:
            result = manager.get_result(timeout=1)
            if result is None and not manager.is_running():
                raise ModelError("continuous batching stopped; set evaluation.engine to transformers.")
            if result is None or not result.is_finished():
                continue
            if result.error is not None:
                raise ModelError(f"continuous batching failed: {result.error}")
            row = waiting.pop(result.request_id)
            tokens[row] += result.generated_tokens
            left = rooms[row] - len(tokens[row])
            # Line ends before the first word do not end the line: such a row continues.
            text = str(loaded.tokenizer.decode(tokens[row], skip_special_tokens=True))
            if left > 0 and "\n" not in text.lstrip() and tokens[row][-1] not in ends:
                waiting[manager.add_request([*prompts[row], *tokens[row]], max_new_tokens=left)] = row
    results = []
    for ids in tokens:
        stop = next((place for place, token in enumerate(ids) if token in ends), None)
        results.append(Generated(ids[:stop], stop is not None))
    return results


@lru_cache(maxsize=1)
def _line_end_tokens(tokenizer: Any) -> frozenset[int]:
    """The tokens whose text has a line end."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], skip_special_tokens=True)
    return frozenset(token for token, text in enumerate(texts) if "\n" in text)
