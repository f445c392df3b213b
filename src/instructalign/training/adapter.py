"""Low-rank adapters around a model, and the saving of what came of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from instructalign.config import AdapterConfig
from instructalign.errors import ModelError
from instructalign.training.model import LoadedModel, quiet_loading


def add_adapter(loaded: LoadedModel, adapter: AdapterConfig) -> Any:
    """Wraps the model for low-rank adaptation.

    Raises:
        ModelError: the named layers are not in the model.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    settings = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if loaded.encoder_decoder else TaskType.CAUSAL_LM,
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # peft annotates int, and computes with floats
        lora_dropout=adapter.dropout,
        target_modules=adapter.targets,
        use_dora=adapter.type == "dora",
        modules_to_save=_embedding_names(loaded.model) if adapter.train_embeddings else None,
    )
    try:
        return get_peft_model(loaded.model, settings)
    except ValueError as error:
        layers = sorted({name.rpartition(".")[2] for name, _ in loaded.model.named_modules() if name})
        raise ModelError(
            f"model.adapter.targets {adapter.targets} do not fit {loaded.name}: {str(error).splitlines()[0]} "
            f"Its layers: {', '.join(layers)}."
        ) from None


def _embedding_names(model: Any) -> list[str]:
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    return [name.rpartition(".")[2] for name, module in model.named_modules() if id(module) in embeddings]


def save_model(model: Any, loaded: LoadedModel, adapter: AdapterConfig | None, folder: Path) -> None:
    """Saves the adapted model so that it appears whole, loadable by transformers alone.

    An adapter is merged into the weights unless the configuration keeps it apart.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if adapter and adapter.merge:
        model = model.merge_and_unload()
    with quiet_loading():
        model.save_pretrained(partial)
    loaded.tokenizer.save_pretrained(partial)
    # A model that stands there already is this run's own: the record of its end was not written any more.
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
