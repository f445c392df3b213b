"""Our scorer as a model of lm-evaluation-harness: `instructalign lm-eval --model_args pretrained=…`.

Prompts, tokens, chat templates and options are those of the harness's own `hf` model, which this one extends. What
differs is how requests run: all continuations of a context together after one pass over it, a prefix that many
contexts share once (`likelihood.py`), batches by tokens, and generation that ends a text at its stop string.

The harness looks for no entry points of other packages (version 0.4.13), so that `lm_eval --model instructalign`
alone cannot find this class. `instructalign lm-eval` is its command line with the model registered; in Python,
importing this module registers it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import StoppingCriteriaList

from instructalign.config import EvaluationConfig
from instructalign.errors import DataError, ModelError
from instructalign.evaluation.likelihood import (
    CPU_BATCH_TOKENS,
    Likelihoods,
    plan_batches,
    plan_prefixes,
    run_prefix,
    score_batch,
    score_continuations,
)
from instructalign.evaluation.prompting import Query
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.generation import StopStrings
from instructalign.training.models import LoadedModel, resolve_model
from instructalign.training.tokenization import Codec

log = logging.getLogger(__name__)

_SHORT = 16  # tokens of a context below which each continuation is cheaper with a copy of it
_LABELS = 32  # continuations of one context that are scored as one query

Request = tuple[Any, list[int], list[int]]
"""A request of the harness: its texts, the tokens of the context, and those of the continuation."""


@register_model("instructalign")
class InstructAlignLM(HFLM):  # type: ignore[misc]
    """A model of lm-evaluation-harness that answers with instructalign's scorer.

    Args:
        pretrained: a model folder (a run's `model` folder, or that of an adapter), a Hub name, or a loaded model.
        batch_tokens: tokens per batch, padding included. It replaces the harness's `batch_size`, which counts rows
            and has no effect here.
        device: `cuda`, `cpu`, …; by default a GPU where there is one.
        **options: any other argument of the harness's `hf` model.
    """

    def __init__(
        self,
        pretrained: Any,
        *,
        batch_tokens: int = EvaluationConfig().batch_tokens,
        device: str | None = None,
        **options: Any,
    ) -> None:
        if options.get("mixed_precision_dtype") is not None:
            raise ModelError("mixed_precision_dtype has no effect with this model; give dtype, or use --model hf.")
        name = str(pretrained)
        if isinstance(pretrained, str):
            pretrained, options = _resolve(pretrained, options)
        super().__init__(pretrained, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), **options)
        self._batch_tokens = batch_tokens
        # The harness itself counts processes only where there are several GPUs.
        self._state = PartialState(cpu=not torch.cuda.is_available())
        self._rank, self._world_size = self._state.process_index, self._state.num_processes
        network = self.model
        if hasattr(network, "peft_config") and not network.active_peft_config.is_prompt_learning:
            network = network.get_base_model()  # with the adapter's layers inside
        self._loaded = LoadedModel(network, Codec(self.tokenizer, self.backend == "seq2seq"), name)

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all processes, one after another."""
        found: torch.Tensor = gather(tensor) if self.world_size > 1 else tensor
        return found

    def barrier(self) -> None:
        """Waits for all processes."""
        self._state.wait_for_everyone()

    # -- likelihood ------------------------------------------------------------------------------------------

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts; one longer than the model's context is scored window by window."""
        windows: list[Request] = []
        owners = []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            prefix = self.prefix_token_id
            for window in get_rolling_token_windows(tokens, prefix, max_seq_len=self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[owner] += value
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of every continuation, and whether greedy decoding would write it."""
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        places, queries = self._queries(requests)
        for places_of, score in zip(places, self._score(queries), strict=True):
            for place, value, greedy in zip(places_of, score.labels, score.greedy, strict=True):
                answers[place] = value, greedy
        for (texts, *_tokens), answer in zip(requests, answers, strict=True):
            if texts is not None:  # a window of a longer text has none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _queries(self, requests: Sequence[Request]) -> tuple[list[list[int]], list[Query]]:
        """Requests in a row with the same context as one query, and by query the places of its requests."""
        for place, (_, context, continuation) in enumerate(requests):
            text = str(requests[place][0])[:200]
            if not context or not continuation:
                what = "context" if continuation else "continuation"
                raise DataError(f"request {place}: the {what} has no tokens: {text}.")
            if len(continuation) > self.max_length:
                raise DataError(
                    f"request {place}: the continuation has {len(continuation)} tokens, more than the model's "
                    f"context of {self.max_length}: {text}."
                )
        cut = [self._cut(context, continuation) for _, context, continuation in requests]
        lost = sum(len(c) < len(request[1]) for (c, _), request in zip(cut, requests, strict=True))
        if lost:
            log.warning("%d of %d contexts lost their beginning to fit the model's context", lost, len(cut))
        places: list[list[int]] = []
        for context, some in groupby(range(len(cut)), key=lambda place: cut[place][0]):
            # The longest first, so that those of a batch that run together have about the same length.
            members = sorted(some, key=lambda place: -len(cut[place][1]))
            short = len(context) < _SHORT and len(cut[members[0]][1]) > 1 and self.backend == "causal"
            size = 1 if short else _LABELS
            places += [members[start : start + size] for start in range(0, len(members), size)]
        return places, [Query(cut[some[0]][0], tuple(cut[place][1] for place in some)) for some in places]

    def _cut(self, context: list[int], continuation: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What is left of a request in the model's context, as in the harness: the beginning is lost."""
        if self.backend == "seq2seq":
            return tuple(context[-self.max_length :]), tuple(continuation)
        room = self.max_length + 1 - len(continuation)
        return tuple(context[max(0, len(context) - room) :]), tuple(continuation)

    def _score(self, queries: Sequence[Query]) -> list[Likelihoods]:
        budget = self._batch_tokens
        if self._loaded.model.device.type == "cpu":
            budget = min(budget, CPU_BATCH_TOKENS)
        found: dict[int, Likelihoods] = {}
        for length, batches in plan_prefixes(self._loaded, queries, budget):
            prefix = run_prefix(self._loaded, queries[batches[0][0]].prompt[:length]) if length else None
            single = [i for batch in batches for i in batch if len(queries[i].labels) == 1 and not length]
            if self.backend == "causal" and single:
                # Nothing is shared: prompt and continuation are better one sequence, whose logits all count.
                batches = [rest for batch in batches if (rest := [i for i in batch if i not in set(single)])]
                whole = [Query((*queries[i].prompt, *queries[i].labels[0]), ()) for i in single]
                for batch in plan_batches(whole, min(budget, CPU_BATCH_TOKENS)):
                    chosen = [single[place] for place in batch]
                    scores = score_continuations(self._loaded, [queries[i] for i in chosen], greedy=True)
                    found.update(zip(chosen, scores, strict=True))
            for batch in batches:
                scores = score_batch(self._loaded, [queries[i] for i in batch], greedy=True, prefix=prefix)
                found.update(zip(batch, scores, strict=True))
        return [found[index] for index in range(len(queries))]

    # -- generation ------------------------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continues every context until one of its stop strings, the end of the text, or the longest length."""
        answers = [""] * len(requests)
        by_options: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_options.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(place)
        for places in by_options.values():
            contexts = [requests[place].args[0] for place in places]
            for index, text in self._generate(contexts, requests[places[0]].args[1]).items():
                answers[places[index]] = text
                self.cache_hook.add_partial("generate_until", requests[places[index]].args, text)
        return answers

    def _generate(self, contexts: Sequence[str], options: dict[str, Any]) -> dict[int, str]:
        """The continuations of contexts by their index, all under one set of the harness's generation options."""
        left = dict(normalize_gen_kwargs(options, self.max_gen_toks))
        stops = handle_stop_sequences(
            left.pop("until", None), eos=self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        )
        new = int(left.pop("max_gen_toks"))
        room = self.max_length - (0 if self.backend == "seq2seq" else new)
        if room < 1:
            raise DataError(
                f"max_gen_toks: {new} leaves no room for a prompt in the model's context of {self.max_length}."
            )
        if not left.get("do_sample"):
            left.pop("temperature", None)
        prompts = [self._encode_context(context)[-room:] for context in contexts]
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        found: dict[int, str] = {}
        while order:
            batch = order[: max(1, self._batch_tokens // (len(prompts[order[0]]) + new))]
            order = order[len(batch) :]
            width = len(prompts[batch[0]])
            pad = self.tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (width - len(prompts[index])) + prompts[index] for index in batch])
            mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
            begin = 1 if self.backend == "seq2seq" else width
            with fast_inference(self._loaded.model):
                output = self._loaded.model.generate(  # type: ignore[operator]
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    stopping_criteria=StoppingCriteriaList([StopStrings(self.tokenizer, stops, begin)]),
                    pad_token_id=pad,
                    use_cache=True,
                    **{"max_new_tokens": new, **left},
                )
            for index, tokens in zip(batch, output[:, begin:].tolist(), strict=True):
                found[index] = self._text(tokens, stops)
        return found

    def _encode_context(self, context: str) -> list[int]:
        special = self.add_bos_token
        if self.backend == "causal" and has_bos_prefix(context, self.tokenizer.bos_token):
            special = False
        known = {} if special is None or self.backend == "seq2seq" else {"add_special_tokens": special}
        ids: list[int] = self.tokenizer(context, truncation=self.truncation, **known)["input_ids"]
        return ids

    def _text(self, tokens: list[int], stops: list[str]) -> str:
        """The answer in generated tokens: without what comes after a stop string, and without thinking."""
        end = self.think_end_token
        if isinstance(end, int) and end in tokens:
            tokens = tokens[len(tokens) - tokens[::-1].index(end) :]
        text = self.tok_decode(tokens)
        text = text.lstrip() if isinstance(end, int) else text
        return str(postprocess_generated_text(text, stops, end if isinstance(end, str) else None))


def _resolve(pretrained: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What the harness loads for a model's name; an adapter's folder becomes its base with the adapter on it."""
    place = resolve_model(pretrained)
    folder = Path(place)
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        own = {"tokenizer": place} if (folder / "tokenizer_config.json").exists() else {}
        return resolve_model(adapter["base_model_name_or_path"]), {**own, "peft": place, **options}
    return place, options
