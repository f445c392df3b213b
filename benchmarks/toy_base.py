"""Makes the toy family's base model, which ships with the package.

    python benchmarks/toy_base.py --out src/instructalign/toy/base
    python benchmarks/toy_base.py --out runs/toy-large --width 192 --layers 4      another size, for comparisons

A byte-level BPE tokenizer and a small LLaMA, trained on the toy family's instruction data alone: sentiment,
topic and translation in the known languages. One thread and one seed, so that the same versions on the same kind
of machine give the same weights; a few minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from instructalign.files import write_text
from instructalign.toy.datasets import read_replay, replay_instruction
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, StepBatches
from instructalign.training.loss import token_losses
from instructalign.training.tokenization import Codec
from instructalign.types import Instruction

README = """# The toy family's base model

{parameters:,} parameters, made by `python benchmarks/toy_base.py` (torch {torch}, seed {seed}, {steps} steps;
mean loss of the last 100: {loss:.3f}).

It knows the toy family's six known languages (qka to qkf), and in each of them how to tell the sentiment and
the topic of a sentence and how to translate it into the other five. It has seen no other language.
Licence: Apache-2.0.
"""


class Past:
    """The replay data, as the stream that batches are taken from."""

    def __getitem__(self, index: int) -> Instruction:
        return replay_instruction(index)


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learnt from the known languages and the wording of their tasks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{example.prompt} {example.answer}" for example in read_replay(rows=5000)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", model_max_length=256
    )


def make_model(tokenizer: PreTrainedTokenizerFast, width: int = 96, layers: int = 3) -> LlamaForCausalLM:
    """A small LLaMA with fresh weights; the width is a multiple of 24, that of a head."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=width // 24,
            num_key_value_heads=width // 24,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def train(model: Any, codec: Codec, *, steps: int, batch_size: int, learning_rate: float, warmup: int) -> float:
    """Trains with AdamW and a linear schedule; returns the mean loss of the last 100 steps."""
    batches = StepBatches(
        Past(),
        ExampleEncoder(codec, max_length=128),
        batch_size=batch_size,
        limits=MicroBatchLimits(rows=batch_size // 2, overhead=1 << 20),
        weights=LossWeights(prompt=0.2),
    )
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    recent: list[float] = []
    model.train()
    for step in range(steps):
        parts = batches[step]
        total = parts[0]["step_mass"]
        loss = torch.zeros(())
        for part in parts:
            weights = part["weights"][part["weights"] > 0]
            loss = (token_losses(model, part, False) * weights).sum() / total
            loss.backward()
            recent.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = learning_rate * min((step + 1) / warmup, 1.0) * (1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {sum(recent) / 100:.3f}", flush=True)
            last = sum(recent) / 100
            recent = []
    return last


def main() -> None:
    """Reads the command line, makes the model and writes its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="of the model's first weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    tokenizer = make_tokenizer(900)
    model = make_model(tokenizer, arguments.width, arguments.layers)
    codec = Codec(tokenizer, encoder_decoder=False)
    loss = train(
        model, codec, steps=arguments.steps, batch_size=32, learning_rate=arguments.learning_rate, warmup=100
    )
    model.eval()
    model.generation_config = GenerationConfig(
        max_new_tokens=32, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    readme = README.format(
        parameters=model.num_parameters(),
        torch=torch.__version__,
        seed=arguments.seed,
        steps=arguments.steps,
        loss=loss,
    )
    write_text(arguments.out / "README.md", readme)


if __name__ == "__main__":
    main()
