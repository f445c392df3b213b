"""What `model.vocabulary` gains: tokens a word and a sentence, and how much faster the same text is written.

Pieces are learned from the Javanese side of FLORES-200's dev set without 100 sentences that are held out, once
as it is, in the Latin script, and once transliterated into the Javanese script, letter by letter (Unicode
Standard, 17.4; letters without a counterpart stay). English and Indonesian are the known languages, the
tokenizer is that of SmolLM2 (benchmarks/real_base.py). Tokens are counted on the held-out sentences. Speed: a
model of LLaMA's shape with this tokenizer and random weights (4 layers of 128; or the one that --model names) is
made to write the first of them in batches, token for token, by overruling its choice, with transformers'
`generate` on one thread. What is timed is processor time, before and after in turns, and the median counts. In
proportion, it is as many times faster as the tokens are fewer.

    python benchmarks/vocabulary.py --flores ../shared/data/flores200 --out docs/results/vocabulary.md
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import Clock, describe, put, start_quietly
from real_base import BASE

LANGUAGES = {"eng": "eng_Latn", "ind": "ind_Latn", "jav": "jav_Latn"}


def configure(options: argparse.Namespace, folder: Path, script: str) -> Any:
    """The configuration of a run on FLORES, whose Javanese is in a script."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.training.scripts import javanese

    from instructalign.config_file import build_config

    sides = {code: (options.flores / "dev" / f"{name}.dev").read_text("utf-8") for code, name in LANGUAGES.items()}
    if script == "Javanese":
        sides["jav"] = javanese(sides["jav"].lower())
    rows = zip(*(text.splitlines() for text in sides.values()), strict=True)
    path = folder / f"{script}.tsv"
    path.write_text("\n".join("\t".join(row) for row in [(*LANGUAGES,), *rows]) + "\n", encoding="utf-8")
    return build_config(
        {
            "model": {"base": str(options.model or make_tiny(folder)), "vocabulary": {"add": options.add}},
            "languages": {"known": ["eng", "ind"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": str(path)}],
            "instructions": {"objectives": {"mt": 1}, "heldout": 100},
            "training": {"steps": 1},
        }
    )


def make_tiny(folder: Path) -> Path:
    """A tiny model with SmolLM2's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    return folder / "tiny"


def write(loaded: Any, tokenizer: Any, texts: Sequence[str], batch: int) -> float:
    """Processor seconds that a model takes to write texts, token for token."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    end = tokenizer.eos_token_id
    targets = sorted(([*tokenizer.encode(text, add_special_tokens=False), end] for text in texts), key=len)

    class Told(LogitsProcessor):
        def __init__(self, ids: list[list[int]], begin: int) -> None:
            self.ids, self.begin = ids, begin

        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
            place = input_ids.shape[1] - self.begin
            for row, ids in enumerate(self.ids):
                scores[row, ids[place] if place < len(ids) else end] = torch.inf
            return scores

    prompt = tokenizer.encode("Javanese:", add_special_tokens=False)
    clock = Clock()
    for first in range(0, len(targets), batch):
        some = targets[first : first + batch]
        written = loaded.model.generate(
            input_ids=torch.tensor([prompt] * len(some)),
            attention_mask=torch.ones(len(some), len(prompt), dtype=torch.long),
            max_new_tokens=max(map(len, some)),
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
            logits_processor=LogitsProcessorList([Told(some, len(prompt))]),
        )
        for ids, row in zip(some, written.tolist(), strict=True):
            if row[len(prompt) :][: len(ids)] != ids:
                raise SystemExit("the model wrote something else")
    return clock.read()[1]


def measure(options: argparse.Namespace, folder: Path, script: str) -> tuple[list[str], str]:
    """The rows of the two tables for a script."""
    from instructalign.mixture.training_data import prepare_data
    from instructalign.training.models import load_model
    from instructalign.training.new_rows import extend_rows
    from instructalign.training.vocabulary import extend_tokenizer

    config = configure(options, folder, script)
    data, base, longer = prepare_data(config), load_model(config.model), load_model(config.model)
    buffers = data.replay, data.taught
    extension = extend_tokenizer(base.tokenizer, config, data.corpus, data.heldout, *buffers)
    extend_rows(longer, extension, config.model.vocabulary, config, data)
    record, protected = extension.record, extension.record["protected"]
    fertility = [
        f"| {script} | {record['added']:,} | {code} | {found['before']:.3f} | {found['after']:.3f} | "
        f"{protected['unchanged']:,} of {protected['texts']:,} |"
        for code, found in record["languages"].items()
    ]
    texts = [row.texts["jav"] for row in data.heldout][: options.sentences]
    models = {"before": (base, base.tokenizer), "after": (longer, extension.tokenizer)}
    tokens, seconds = {}, {name: list[float]() for name in models}
    for name, (_, tokenizer) in models.items():
        tokens[name] = statistics.mean(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    for _ in range(options.rounds):
        for name, (loaded, tokenizer) in models.items():
            seconds[name].append(write(loaded, tokenizer, texts, options.batch))
    rates = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    counted = [tokens["before"], tokens["after"], tokens["before"] / tokens["after"]]
    cells = [f"{counted[0]:.1f}", f"{counted[1]:.1f}", f"{counted[2]:.2f}"]
    cells += [f"{rates['before']:.2f}", f"{rates['after']:.2f}", f"**{rates['after'] / rates['before']:.2f}**"]
    speed = f"| {' | '.join([script, *cells])} |"
    return fertility, speed


def main() -> None:
    """Measures and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flores", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--add", type=int, default=2000)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start_quietly(1)
    about = describe("torch", "transformers", "tokenizers")
    with tempfile.TemporaryDirectory() as name:
        found = [measure(options, Path(name), script) for script in ("Latin", "Javanese")]
    head = "| script of the Javanese | pieces | language | tokens a word before | after | old texts unchanged |"
    speeds = (
        "| script | tokens a sentence before | after | times fewer | sentences/s before | after | times faster |"
    )
    lines = [row for rows, _ in found for row in rows]
    put(
        [
            "# New pieces in the vocabulary",
            f"Made by `python benchmarks/vocabulary.py --flores FOLDER` on {about}.",
            " ".join(str(__doc__).split("\n\n")[1].split()),
            "\n".join([head, "| --- | ---: | --- | ---: | ---: | ---: |", *lines]),
            f"{options.sentences} sentences, batches of {options.batch}, {options.rounds} rounds:",
            "\n".join([speeds, "| --- " + "| ---: " * 6 + "|", *(speed for _, speed in found)]),
        ],
        options.out,
    )


if __name__ == "__main__":
    main()
