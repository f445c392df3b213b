"""Parallel text in a script that no tokenizer of the tests has seen, and tokenizers of three families."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tests.tiny import tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# The Javanese letters (aksara) by their usual transliteration, as in The Unicode Standard, section 17.4; each has
# the vowel a, unless a vowel sign or the pangkon follows.
NAMES = "h n c r k d t s w l p dh j y ny m g b th ng"
LETTERS = dict(zip(NAMES.split(), "ꦲꦤꦕꦫꦏꦢꦠꦱꦮꦭꦥꦝꦗꦪꦚꦩꦒꦧꦛꦔ", strict=True))
VOWELS = {"a": "", "i": "ꦶ", "u": "ꦸ", "e": "ꦺ", "o": "ꦺꦴ", "": "꧀"}
SYLLABLE = re.compile(rf"({'|'.join(sorted(LETTERS, key=len, reverse=True))})([aiueo]?)")


def javanese(text: str) -> str:
    """Latin text of these letters in the Javanese script."""
    return SYLLABLE.sub(lambda match: LETTERS[match[1]] + VOWELS[match[2]], text)


@lru_cache(maxsize=1)
def pairs(count: int = 1200, vocabulary: int = 600) -> list[tuple[str, str]]:
    """Sentences in a made-up known language and word by word in a made-up Javanese, words by Zipf's law."""
    draw = random.Random(1)

    def word(letters: Sequence[str]) -> str:
        return "".join(draw.choice(letters) + draw.choice("aiueo") for _ in range(draw.randint(1, 4)))

    known = [word("bdfglmnprstvz") for _ in range(vocabulary)]
    new = [javanese(word(list(LETTERS))) for _ in range(vocabulary)]
    weights = [1 / (rank + 3) for rank in range(vocabulary)]
    rows = (draw.choices(range(vocabulary), weights, k=draw.randint(4, 12)) for _ in range(count))
    return [(" ".join(known[w] for w in row), " ".join(new[w] for w in row)) for row in rows]


def tokenizer(shape: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer trained on texts: as BLOOM's (bytes), LLaMA 2's (BPE, bytes for the rest) or mT5's (unigram)."""
    special, made = ["<pad>", "</s>", "<unk>"], Tokenizer(models.BPE())
    trainer: Any = trainers.BpeTrainer(vocab_size=500, special_tokens=special[:2], show_progress=False)
    if shape == "bloom":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer.initial_alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif shape == "llama":
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        trainer.special_tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    else:
        made = Tokenizer(models.Unigram())
        made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    made.train_from_iterator(texts, trainer)
    if shape != "bloom":  # bytes are pieces, not special tokens; what mT5 does not know it writes letter by letter
        spec = json.loads(made.to_str())
        spec["added_tokens"] = [each for each in spec["added_tokens"] if not each["content"].startswith("<0x")]
        if shape == "mt5":
            spec["model"]["byte_fallback"] = True
            spec["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
            spec["decoder"] = {
                "type": "Sequence",
                "decoders": [{"type": "ByteFallback"}, json.loads(made.to_str())["decoder"]],
            }
        made = Tokenizer.from_str(json.dumps(spec))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token=None if shape == "bloom" else "<unk>"
    )


def save_shape(folder: Path, shape: str, family: str = "") -> Path:
    """A tiny model with a tokenizer of its own shape, which never saw the Javanese script."""
    made = tokenizer(shape, [known for known, _ in pairs()])
    model = tiny_model(family or shape)
    model.resize_token_embeddings(-(-len(made) // 8) * 8, mean_resizing=False)
    if shape == "mt5":  # like mT5's, whose configuration says otherwise in transformers 5
        model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder
