"""Memory, time and cost of adapting larger models, computed by what `instructalign doctor --gpu` computes by.

    python benchmarks/scale.py > TABLE          the tables of docs/guides/scale.md

Models are built without weights, from their published sizes; nothing is downloaded or measured. A run is 10,000
steps of 32 examples, 170 tokens each on average and 256 at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from shapes import SHAPES

LLAMA = {"kind": "llama", "vocab_size": 128_256, "tie_word_embeddings": False, "num_key_value_heads": 8}
MODELS: dict[str, dict[str, Any]] = {
    "BLOOM-560M": SHAPES["560m"],
    "SmolLM2-1.7B": LLAMA
    | {"vocab_size": 49_152, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24}
    | {"num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": True},
    "Llama-3.1-8B": LLAMA
    | {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "Llama-3.1-70B": LLAMA
    | {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64},
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"dtype": "float32"},
    "LoRA": {"dtype": "bfloat16", "adapter": {"r": 16}},
    "QLoRA": {"dtype": "bfloat16", "adapter": {"r": 16, "quantised": True}},
}
CARDS = {"rtx4090": 0.4, "h100": 2.5, "8xh100": 20.0}
"""Dollars an hour, assumed: about what clouds ask in 2026."""
STEPS, BATCH, MEAN = 10_000, 32, 170


def main() -> None:
    """Prints a table for each model."""
    for name in MODELS:
        print(f"### {name}\n\n| method | card | memory of each | fits | time | cost |")
        print("| --- | --- | ---: | --- | ---: | ---: |")
        for line in lines(name):
            print(line)
        print()


def lines(name: str) -> Iterator[str]:
    """The rows of one model's table."""
    import torch
    from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig

    from instructalign.config_file import build_config
    from instructalign.doctor.check_examples import SampledExample
    from instructalign.doctor.gpu_cards import gpu_cards
    from instructalign.doctor.resource_estimates import (
        CostPart,
        duration,
        estimate_memory,
        on_cards,
        operations,
        quantised_weights,
        shape_of,
    )
    from instructalign.files import format_bytes
    from instructalign.training.adapters import add_adapter
    from instructalign.training.models import LoadedModel
    from instructalign.training.preflight import trained_embeddings

    sampled = [SampledExample("mt", 110, MEAN - 110, 110, MEAN - 110, ())] * 98
    sampled += [SampledExample("mt", 176, 80, 176, 80, ())] * 2
    shape = dict(MODELS[name])
    kind = {"bloom": BloomConfig, "llama": LlamaConfig}[shape.pop("kind")]
    for method, settings in METHODS.items():
        config = build_config(
            {
                "model": {"base": name, **settings},
                "languages": {"known": ["eng"], "new": ["jav"]},
                "corpora": [{"format": "flores", "path": "."}],
                "training": {"steps": STEPS, "batch_size": BATCH, "max_length": 256, "precision": "bfloat16"}
                | {"gradient_checkpointing": name != "BLOOM-560M"},
            }
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(kind(**shape))
        total, in_four_bits = count(model), quantised_weights(model) if method == "QLoRA" else 0
        sizes = shape_of(model, encoder_decoder=False)
        codec: Any = SimpleNamespace(encoder_decoder=False)
        adapter = config.model.adapter
        adapted = add_adapter(LoadedModel(model, codec, name), adapter) if adapter else model
        trained = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
        for card, dollars in CARDS.items():
            gpu = gpu_cards(card)
            memory = estimate_memory(
                *(config, sizes, count(adapted), trained, 4 if method == "full" else 2, sampled, False),
                embedded=trained_embeddings(adapted),
                in_four_bits=in_four_bits,
                gpu=gpu,
            )
            tokens = STEPS * BATCH * MEAN
            work = operations(config, total, trained, tokens)
            part = CostPart(total, trained, memory, "cuda", gpu.memory, 0, 0, tokens, work, None, None)
            part = on_cards(config, part, gpu)
            needed = sum(part.memory.values())
            fits = "yes" if needed < 0.9 * gpu.memory else "hardly" if needed < gpu.memory else "no"
            time = duration(part.seconds or 0) if fits != "no" else "–"
            cost = f"${dollars * (part.seconds or 0) / 3600:,.1f}" if fits != "no" else "–"
            yield f"| {method} | {part.gpu} | {format_bytes(needed)} | {fits} | {time} | {cost} |"


def count(model: Any) -> int:
    """The number of weights."""
    return sum(weight.numel() for weight in model.parameters())


if __name__ == "__main__":
    main()
