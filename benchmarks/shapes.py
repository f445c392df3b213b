"""Models with the shapes of known ones and random weights, to measure speed and memory on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    # for a test of the benchmarks themselves
    "tiny": {"kind": "bloom", "vocab_size": 1_000, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    # BLOOM-560M's proportions at a size for processors
    "small": {"kind": "bloom", "vocab_size": 21_000, "hidden_size": 256, "n_layer": 8, "n_head": 8},
    # bigscience/bloom-560m
    "560m": {"kind": "bloom", "vocab_size": 250_880, "hidden_size": 1024, "n_layer": 24, "n_head": 16},
    # meta-llama/Llama-3.2-1B
    "llama-1b": {
        "kind": "llama",
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
}


def said_of(name: str) -> str:
    """A shape in words."""
    shape = SHAPES[name]
    layers = shape.get("n_layer") or shape["num_hidden_layers"]
    family = {"bloom": "BLOOM", "llama": "LLaMA"}[shape["kind"]]
    sizes = f"{layers} layers of {shape['hidden_size']}, vocabulary {shape['vocab_size']:,}"
    return f"{family}'s shape with random weights ({sizes})"


def make_model(name: str, data: Path, folder: Path) -> None:
    """Writes a model of a shape, and a byte-level BPE trained on the data at hand, to a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(21_000, SHAPES[name]["vocab_size"]),
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [] if name == "tiny" else sorted((data / "text").glob("*.txt"))
    files = texts + sorted(data.glob("nusax/**/train.csv"))
    bpe.train([str(file) for file in files], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    shape = dict(SHAPES[name])
    configuration, architecture = {
        "bloom": (BloomConfig, BloomForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[shape.pop("kind")]
    torch.manual_seed(0)
    config = configuration(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=3, initializer_range=0.05)
    architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
