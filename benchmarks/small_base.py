"""Trains the small instruction-tuned base of `configs/nusantara-small.yaml` from scratch.

A model of a few million parameters that knows English and Indonesian a little: it has read running text in
both, translates between known languages, does sentiment in both under the prompts of the evaluation, and P3's
tasks. It has seen no sentence in any of the new or related languages. Whatever is in the NusaX test set, word
for word or nearly, is left out of all its data.

    python benchmarks/small_base.py --data ../shared/data --out runs/small-base

It takes about forty minutes of processor time on one thread (OMP_NUM_THREADS=1). Its scores are modest; what
matters is what adaptation does to them. Beside the model it writes `past.jsonl`, a sample of the instructions it
was tuned on, to replay from; `--past-only` writes that file alone.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainingArguments, set_seed

from instructalign.data import ItemIndex, ItemText
from instructalign.evaluation import Task, load_task
from instructalign.evaluation.task_items import read_items
from instructalign.files import read_lines, write_jsonl
from instructalign.mixture.replay_sources import read_jsonl_examples
from instructalign.progress import silent
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, StepBatches
from instructalign.training.callbacks import TrainingLog
from instructalign.training.early_stopping import StoppingRules
from instructalign.training.metrics_log import TrainingCounters
from instructalign.training.strategies import StrategyGroup
from instructalign.training.tokenization import Codec
from instructalign.training.trainer import AlignTrainer
from instructalign.types import Instruction

KNOWN = {
    "eng": "English",
    "ind": "Indonesian",
    "zsm": "Malay",
    "tgl": "Tagalog",
    "spa": "Spanish",
    "por": "Portuguese",
    "fra": "French",
    "ita": "Italian",
    "ron": "Romanian",
}
PAST = 20_000  # instructions in past.jsonl
SENTENCE_WORDS = 30  # longer running text is truncated: the model reads at most 160 tokens


class Sources:
    """Past data by source; example i is drawn by weight and walks through its source without repeats."""

    def __init__(self, data: Path, seed: int) -> None:
        self._seed = seed
        self._key = digest_key(seed, "small base")
        sentiment = load_task("nusax_senti")
        index = ItemIndex(items_of_tests(sentiment, data))
        self.parts: list[tuple[str, float, Sequence[Any]]] = [
            ("text", 0.25, unseen(running_text(data), index)),
            ("translation", 0.25, list(translations(data))),
            ("sentiment", 0.3, unseen(sentiments(data), index)),
            ("p3", 0.2, unseen(read_jsonl_examples(path=data / "p3"), index)),
        ]
        self._task = sentiment
        self._bounds = list(itertools.accumulate(weight for _, weight, _ in self.parts))

    def __getitem__(self, index: int) -> Instruction:
        draws = Draws(self._key, index)
        name, _, part = self.parts[draws.weighted(self._bounds)]
        item = part[permuted(index, len(part), self._seed, name)]
        if name == "text":
            return _continuation(item, draws)
        if name == "translation":
            return _translation(item, draws)
        if name == "sentiment":
            return _sentiment(item, self._task, draws)
        return item  # type: ignore[no-any-return]


def items_of_tests(task: Task, data: Path) -> Iterator[ItemText]:
    """The texts of a task's test items in the languages that the base knows."""
    for code in ("eng", "ind"):
        for item in read_items(task, code, data):
            for text in item.fields.values():
                yield ItemText(task.name, item.id, code, text)


def unseen(items: Iterable[Any], index: ItemIndex) -> list[Any]:
    """The items that give no test item away; how many do is printed."""
    kept, dropped = [], 0
    for item in items:
        text = " ".join(item) if isinstance(item, list) else item[0] if isinstance(item, tuple) else item.prompt
        if index.find("", [text]):
            dropped += 1
        else:
            kept.append(item)
    print(f"left out {dropped} that are in the test set")
    return kept


def _continuation(words: list[str], draws: Draws) -> Instruction:
    cut = 1 + draws.below(max(1, len(words) // 3))
    return Instruction(" ".join(words[:cut]), " ".join(words[cut:]), "text")


def _translation(row: dict[str, str], draws: Draws) -> Instruction:
    names = list(row)
    source = names[draws.below(len(names))]
    target = names[(names.index(source) + 1 + draws.below(len(names) - 1)) % len(names)]
    prompt = f"Translate from {KNOWN[source]} to {KNOWN[target]}: {row[source]}\n{KNOWN[target]}:"
    return Instruction(prompt, row[target], "translation")


def _sentiment(item: tuple[str, str], task: Task, draws: Draws) -> Instruction:
    text, label = item
    prompt = task.prompts[list(task.prompts)[draws.below(len(task.prompts))]]
    return Instruction(prompt.prompt.format(text=text), task.labels[label][prompt.language], "sentiment")


def running_text(data: Path) -> Iterator[list[str]]:
    """Sentences of running Indonesian and English text as words, at least four of them."""
    for name in ("id_indonlu_sentences.txt", "en_p3_passages.txt"):
        for _, line in read_lines(data / "text" / name):
            for sentence in re.split(r"(?<=[.!?])\s+", line):
                words = sentence.split()[:SENTENCE_WORDS]
                if len(words) >= 4:
                    yield words


def translations(data: Path) -> Iterator[dict[str, str]]:
    """FLORES sentences and NusaX training sentences in the known languages."""
    for split in ("dev", "devtest"):
        files = {code: data / "flores200" / split / f"{code}_Latn.{split}" for code in KNOWN}
        columns = {code: [line for _, line in read_lines(path)] for code, path in files.items()}
        for texts in zip(*columns.values(), strict=True):
            yield dict(zip(columns, texts, strict=True))
    for row in table(data / "nusax/mt/train.csv"):
        yield {"eng": row["english"], "ind": row["indonesian"]}


def sentiments(data: Path) -> Iterator[tuple[str, str]]:
    """Indonesian and English sentences with their sentiment."""
    for _, line in read_lines(data / "smsa/train.tsv"):
        text, _, label = line.rpartition("\t")
        yield text, label
    for language in ("indonesian", "english"):
        for row in table(data / f"nusax/sentiment/{language}/train.csv"):
            yield row["text"], row["label"]
    for row in table(data / "english/sentiment/orig_train.tsv", delimiter="\t"):
        yield " ".join(row["Text"].split()[:60]), row["Sentiment"].lower()


def table(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a table with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def train_tokenizer(sources: Sources, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the known languages; text in any other can be written, in more pieces."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (f"{example.prompt} {example.answer}" for example in (sources[i] for i in range(60_000)))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def write_past(sources: Sources, path: Path, count: int) -> None:
    """Writes a sample of the instructions that the base is tuned on, without the running text."""
    stream = (sources[i] for i in itertools.count())
    wanted = itertools.islice((each for each in stream if each.objective != "text"), count)
    write_jsonl(
        path,
        (
            {
                "inputs": each.prompt,
                "targets": each.answer,
                "task": "p3" if each.objective == "replay" else each.objective,
            }
            for each in wanted
        ),
    )


def main(arguments: argparse.Namespace) -> None:
    """Trains the base and saves it."""
    set_seed(arguments.seed)
    sources = Sources(arguments.data, arguments.seed)
    for name, weight, part in sources.parts:
        print(f"{name}: {len(part)} items, weight {weight}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_past(sources, arguments.out / "past.jsonl", PAST)
    if arguments.past_only:
        return
    tokenizer = train_tokenizer(sources, arguments.vocabulary)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=arguments.width,
            intermediate_size=3 * arguments.width,
            num_hidden_layers=arguments.layers,
            num_attention_heads=arguments.width // 32,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    print(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M parameters")
    codec = Codec(tokenizer, encoder_decoder=False)
    batches = StepBatches(
        sources,
        ExampleEncoder(codec, 160),
        batch_size=32,
        limits=MicroBatchLimits(rows=8, overhead=64),
        weights=LossWeights(prompt=0.1),
    )
    counters, stopping = TrainingCounters(), StoppingRules(None, None)
    trainer = AlignTrainer(
        model,
        TrainingArguments(
            output_dir=str(arguments.out),
            max_steps=arguments.steps,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=200,
            weight_decay=0.01,
            logging_steps=50,
            save_strategy="no",
            report_to=[],
            seed=arguments.seed,
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            bf16=arguments.bf16,
        ),
        batches=batches,
        encoder_decoder=False,
        strategies=StrategyGroup({}),
        checkpoints=arguments.out / "checkpoints",
        keep=1,
        counters=counters,
        stopping=stopping,
        callbacks=[TrainingLog(arguments.out / "log.jsonl", counters, silent, stopping)],
    )
    trainer.train()
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    print(f"saved to {arguments.out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/small-base"))
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--past-only", action="store_true", help="write past.jsonl and stop")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} does not exist; give the folder of real data with --data")
    main(options)
