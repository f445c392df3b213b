"""The KL divergence from the base, against torch's own, and through a stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_train import SENTENCES, log, settings, untimed

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.data import Corpus
from instructalign.errors import TrainingError
from instructalign.training.batching import ExampleEncoder
from instructalign.training.monitors import kl_monitor
from instructalign.training.tokenization import Codec
from instructalign.training.train import train
from instructalign.types import Counts, ParallelRow
from tiny import ENCODER_DECODER, FAMILIES, tiny_model, tiny_tokenizer


def config(folder: Path, kl: dict[str, Any] | None, **training: Any) -> Config:
    return build_config(settings(folder, kl=kl, **training), folder=folder)


def heldout() -> Corpus:
    return Corpus([ParallelRow(str(i), {"eng": a, "jav": b}) for i, (a, b) in enumerate(SENTENCES)], Counts())


def logits_of(model: Any, tokenizer: Any, text: str, family: str) -> torch.Tensor:
    """The model's logits at the tokens of the second half of a text, by a plain call for one text."""
    words = text.split(" ")
    first, second = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    with torch.no_grad():
        if family in ENCODER_DECODER:
            labels = torch.tensor([[*tokenizer.encode(second, add_special_tokens=False), tokenizer.eos_token_id]])
            return model(input_ids=torch.tensor([tokenizer.encode(first)]), labels=labels).logits[0]
        prompt = tokenizer.encode(first)
        whole = [*tokenizer.encode(f"{first} {second}"), tokenizer.eos_token_id]
        return model(input_ids=torch.tensor([whole])).logits[0, len(prompt) - 1 : -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_is_torchs(family: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    base, other = tiny_model(family, seed=0), tiny_model(family, seed=1)
    encoder = ExampleEncoder(Codec(tokenizer, family in ENCODER_DECODER), 96)
    measure = kl_monitor(config(tmp_path, None), heldout(), encoder, base, positions=10_000)
    found = measure(other)["kl_to_base"]
    sums, count = 0.0, 0
    for english, _ in SENTENCES:
        before = logits_of(base, tokenizer, english, family).double().log_softmax(-1)
        after = logits_of(other, tokenizer, english, family).double().log_softmax(-1)
        sums += float(F.kl_div(after, before, reduction="sum", log_target=True))
        count += len(before)
    assert found == pytest.approx(sums / count, abs=1e-6)
    assert found > 1e-4
    assert measure(base)["kl_to_base"] == pytest.approx(0, abs=1e-12)


def test_positions_bound_what_is_compared(tmp_path: Path) -> None:
    encoder = ExampleEncoder(Codec(tiny_tokenizer(), False), 96)
    few = kl_monitor(config(tmp_path, None), heldout(), encoder, tiny_model("llama"), positions=1)
    other = tiny_model("llama", seed=1)
    first = SENTENCES[0][0]
    before = logits_of(tiny_model("llama"), tiny_tokenizer(), first, "llama").double().log_softmax(-1)
    after = logits_of(other, tiny_tokenizer(), first, "llama").double().log_softmax(-1)
    expected = F.kl_div(after, before, reduction="sum", log_target=True) / len(before)
    assert few(other)["kl_to_base"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("adapter", [None, {"r": 4}, {"r": 4, "init": "pissa"}], ids=["full", "lora", "pissa"])
def test_kl_grows_and_a_resumed_run_logs_the_same(adapter: Any, tmp_path: Path) -> None:
    data = settings(tmp_path, kl={"every": 1}, keep_checkpoints=10)
    data["model"]["adapter"] = adapter
    made = build_config(data, folder=tmp_path)
    train(made, tmp_path / "whole")
    values = [line["kl_to_base"] for line in log(tmp_path / "whole")]
    assert 0 < values[0] < values[-1]
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "model")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "half" / "checkpoints" / f"checkpoint-{step}")
    train(made, tmp_path / "half")
    assert untimed(log(tmp_path / "half")) == untimed(log(tmp_path / "whole"))


def test_kl_without_a_heldout_sentence(tmp_path: Path) -> None:
    data = settings(tmp_path, kl={"every": 1})
    data["instructions"]["heldout"] = 0
    with pytest.raises(TrainingError, match=r"training\.kl .*instructions\.heldout"):
        train(build_config(data, folder=tmp_path), tmp_path / "run")


def test_heldout_loss_without_heldout_sentences(tmp_path: Path) -> None:
    data = settings(tmp_path, evaluate_every=1)
    data["instructions"]["heldout"] = 0
    with pytest.raises(TrainingError, match=r"evaluate_every .*instructions\.heldout"):
        train(build_config(data, folder=tmp_path), tmp_path / "run")
