"""Low-rank adapters through peft, and the embedding rows of new tokens trained beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from instructalign.config import AdapterConfig, LanguagesConfig
from instructalign.data import Corpus
from instructalign.errors import ModelError, TrainingError
from instructalign.training.models import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = 10_000  # tokenised at a time


def new_language_tokens(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, languages: LanguagesConfig
) -> list[int]:
    """The tokens that the corpus has in new languages and in no known one, in ascending order.

    Texts are tokenised both at the start of a line and after a space.

    Raises:
        TrainingError: there are none.
    """
    new = _tokens(tokenizer, corpus, languages.new)
    rows = sorted(new - _tokens(tokenizer, corpus, languages.known))
    if not rows:
        raise TrainingError(
            f"model.adapter.train_embeddings is new, but all {len(new)} tokens of the new languages occur in "
            "known languages as well. Set it to true for all embeddings, or to false."
        )
    return rows


def _tokens(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, languages: Sequence[str]) -> set[int]:
    texts = chain.from_iterable((text, f" {text}") for text in corpus.texts(languages))
    found: set[int] = set()
    while some := list(islice(texts, _TEXTS)):
        encode: Any = tokenizer(some, add_special_tokens=False)
        for ids in encode["input_ids"]:
            found.update(ids)
    return found


_INITIAL = {"default": True}  # peft has the same names for the others
_NUMBER = re.compile(r"\.(\d+)\.")


def add_adapter(loaded: LoadedModel, adapter: AdapterConfig, rows: Sequence[int] | None = None) -> Any:
    """Wraps the model for low-rank adaptation.

    Args:
        loaded: the base; it is changed in place.
        adapter: the adapter's configuration.
        rows: tokens whose embeddings are trained too; None for none.

    Raises:
        ModelError: the named layers are not in the model, or its embeddings cannot be trained.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    if (rows or adapter.train_embeddings is True) and not adapter.merge:
        _refuse_lost_embeddings()
    shared = _using_embeddings(loaded.model)
    if rows and not adapter.merge and loaded.model.config.tie_word_embeddings and len(set(shared.values())) > 1:
        raise ModelError(
            f"the configuration of {loaded.name} ties the output layer to the input embedding, but the weights "
            "differ: peft could not load single trained rows into it. Set model.adapter.merge to true, or "
            "train_embeddings to true."
        )
    settings = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if loaded.encoder_decoder else TaskType.CAUSAL_LM,
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # peft annotates int, and computes with floats
        lora_dropout=adapter.dropout,
        target_modules=_targets(loaded, adapter),
        use_dora=adapter.type == "dora",
        use_rslora=adapter.rslora,
        init_lora_weights=_INITIAL.get(adapter.init, adapter.init),  # type: ignore[arg-type]
        modules_to_save=sorted(shared) if adapter.train_embeddings is True else None,
        trainable_token_indices={name: list(rows) for name in sorted(shared)} if rows else None,
    )
    try:
        with without_tying(loaded.model.config):
            model = get_peft_model(loaded.model, settings)
    except ValueError as error:
        raise _misfit(loaded, adapter, str(error).splitlines()[0]) from None
    if adapter.train_embeddings is True or rows:
        _tie(model, shared)
        _check_embeddings(model, loaded.name, shared)
    return model


def _refuse_lost_embeddings() -> None:
    """Refuses to keep embeddings beside a base where transformers would load the adapter without them.

    Raises:
        ModelError: it is older than 5.18.
    """
    if Version(version("transformers")) < Version("5.18"):
        raise ModelError(
            f"transformers {version('transformers')} loads an adapter without the embeddings that were trained "
            "with it. Set model.adapter.merge to true, or: pip install -U 'transformers>=5.18'"
        )


@contextmanager
def without_tying(config: Any) -> Iterator[None]:
    """Keeps peft from tying embeddings by the model's configuration.

    The configuration can be wrong (mT5's says tied, its weights are not), and peft ties nothing where it does not
    know the layers' names (BLOOM's, T5's; peft#2898). `_tie` does it by the weights themselves.
    """
    said = getattr(config, "tie_word_embeddings", None)
    config.tie_word_embeddings = False
    try:
        yield
    finally:
        config.tie_word_embeddings = said


def _targets(loaded: LoadedModel, adapter: AdapterConfig) -> list[str] | str:
    """The layers to adapt, as peft names them: a shorthand or suffixes, or full names where layers are chosen.

    Layers are counted by stack, so that `last 4` means the last four of the encoder and of the decoder.

    Raises:
        ModelError: the model has no such layers.
    """
    if adapter.layers is None:
        return adapter.targets
    inside = list(_layered(loaded, adapter))
    depths: dict[str, int] = {}
    for stack, number, _ in inside:
        depths[stack] = max(depths.get(stack, 0), number + 1)
    chosen = {stack: _chosen(adapter, depth) for stack, depth in depths.items()}
    deepest = max(depths.values(), default=0)
    requested = _chosen(adapter, deepest)
    if not requested or not requested <= set(range(deepest)):
        raise _misfit(loaded, adapter, f"layers {adapter.layers}: {deepest} of its layers have such targets.")
    return [name for stack, number, name in inside if number in chosen[stack]]


def _layered(loaded: LoadedModel, adapter: AdapterConfig) -> Iterator[tuple[str, int, str]]:
    """The stack, the layer's number and the name of every linear layer that the targets name."""
    for name, module in loaded.model.named_modules():
        place = _NUMBER.search(f".{name}")
        wanted = adapter.targets == "all-linear" or f".{name}".endswith(
            tuple(f".{each}" for each in adapter.targets)
        )
        if place and wanted and isinstance(module, torch.nn.Linear):
            yield name[: max(place.start() - 1, 0)], int(place[1]), name


def _chosen(adapter: AdapterConfig, depth: int) -> set[int]:
    """The numbers of the chosen layers in a stack of `depth` layers."""
    if isinstance(adapter.layers, str):
        last = int(adapter.layers.removeprefix("last"))
        return set(range(max(depth - last, 0), depth)) if last <= depth else set()
    return {number + depth if number < 0 else number for number in adapter.layers or ()}


def _misfit(loaded: LoadedModel, adapter: AdapterConfig, reason: str) -> ModelError:
    layers = sorted({name.rpartition(".")[2] for name, _ in loaded.model.named_modules() if name})
    return ModelError(
        f"model.adapter.targets {adapter.targets} do not fit {loaded.name}: {reason} "
        f"Its layers: {', '.join(layers)}."
    )


def _using_embeddings(model: Any) -> dict[str, int]:
    """The modules that hold an input or output embedding, with the number of the weight they hold.

    Modules with the same number share their weight: BLOOM's output layer is its input embedding, T5 has four
    modules with one weight.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [id(end.weight) for end in ends if end is not None]
    return {
        name: weights.index(id(module.weight))
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor) and id(module.weight) in weights
    }


def _tie(model: Any, shared: dict[str, int]) -> None:
    """Ties what peft trains wherever the model's own weights were tied."""
    inner = model.get_base_model()
    leaders: dict[int, Any] = {}
    for name, number in shared.items():
        wrapper = inner.get_submodule(name)
        leader = leaders.setdefault(number, wrapper)
        if leader is wrapper:
            continue
        if hasattr(wrapper, "token_adapter"):
            one, other = leader.token_adapter, wrapper.token_adapter
            other.trainable_tokens_delta = one.trainable_tokens_delta
            other.trainable_tokens_original = one.trainable_tokens_original
            other._tied_adapter = [one]  # private in peft: makes it save the two once
        else:
            wrapper.modules_to_save["default"].weight = leader.modules_to_save["default"].weight


def _check_embeddings(model: Any, name: str, shared: dict[str, int]) -> None:
    """Checks that the model computes with the embeddings that are trained (peft#2898, unsloth#9326).

    Raises:
        ModelError: some module would still use the base's embeddings.
    """
    inner = model.get_base_model()
    for place in shared:
        module = inner.get_submodule(place)
        weight = module.weight
        given = (
            torch.zeros(1, weight.shape[1], dtype=weight.dtype, device=weight.device)
            if isinstance(getattr(module, "original_module", module), torch.nn.Linear)
            else torch.zeros(1, dtype=torch.long, device=weight.device)
        )
        with torch.enable_grad():
            trained = module(given).requires_grad
        if not trained:
            raise ModelError(
                f"the embeddings of {name} cannot be trained with an adapter: {place} would still use the base's. "
                "Leave out model.adapter.train_embeddings, or train without model.adapter."
            )
