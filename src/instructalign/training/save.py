"""The saving of what training made of a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from instructalign.config import AdapterConfig
from instructalign.training.model import LoadedModel, quiet_loading


def save_model(
    model: Any,
    loaded: LoadedModel,
    adapter: AdapterConfig | None,
    folder: Path,
    *,
    state: dict[str, Any] | None = None,
    fresh: Callable[[], Any],
) -> None:
    """Saves the adapted model so that it appears whole, loadable by transformers alone.

    An adapter is merged into the weights unless the configuration keeps it apart.

    Args:
        model: the trained model, or its peft wrapper.
        loaded: the base it came from, with its tokenizer.
        adapter: the adapter's configuration, if there is one.
        folder: the model's folder; what stands there is replaced.
        state: all weights by name, where `model` itself holds only a part of them; None where it has them all.
        fresh: gives the base anew in full precision, with the same adapter untrained, for an adapter whose own
            base is quantised or held in parts.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_loading():
        if adapter and adapter.merge:
            apart = adapter.quantised or state is not None
            model, state = (_merged_anew(model, state, fresh) if apart else model.merge_and_unload()), None
        model.save_pretrained(partial, **({} if state is None else {"state_dict": _without_copies(model, state)}))
    loaded.tokenizer.save_pretrained(partial)
    # A model that stands there already is this run's own: the record of its end was not written any more.
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _without_copies(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Leaves out weights that are there under a second name, as `save_pretrained` does where memory is shared."""
    names: Any = getattr(model, "_tied_weights_keys", None)
    pairs = names if isinstance(names, dict) else {}
    copies = {
        copy
        for copy, weight in pairs.items()
        if copy in state and weight in state and torch.equal(state[copy], state[weight])
    }
    return {name: weight for name, weight in state.items() if name not in copies}


def _merged_anew(model: Any, state: dict[str, Any] | None, fresh: Callable[[], Any]) -> Any:
    """The base in full precision with the trained adapter merged into it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    trained = get_peft_model_state_dict(model, state_dict=state)
    whole = fresh()
    set_peft_model_state_dict(whole, {name: weight.cpu() for name, weight in trained.items()})
    return whole.merge_and_unload()
