"""The gradient of an optimizer step is that of the mean over all its loss tokens, however it is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradients
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_train import settings
from transformers import AutoModelForCausalLM

from instructalign.config_file import build_config
from instructalign.mixture.training_data import prepare_data
from instructalign.plugins import STRATEGIES
from instructalign.training.trainer import AlignTrainer
from tiny import tiny_tokenizer


def by_hand(folder: Path, data: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Plain transformers in float64: each example alone, losses of its answer and the end summed, one mean."""
    tokenizer = tiny_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float64).train()
    stream = prepare_data(build_config(data, folder=folder)).mixture
    total, count = torch.zeros((), dtype=torch.float64), 0
    for number in range(data["training"]["batch_size"]):
        example = stream[number]
        prompt = tokenizer.encode(example.prompt)
        whole = [*tokenizer.encode(f"{example.prompt} {example.answer}"), tokenizer.eos_token_id]
        assert len(whole) <= data["training"]["max_length"]
        logits = model(input_ids=torch.tensor([whole])).logits[0]
        answer = torch.tensor(whole[len(prompt) :])
        total = total + F.cross_entropy(logits[len(prompt) - 1 : -1], answer, reduction="sum")
        count += len(answer)
    (total / count).backward()
    return {name: weight.grad.float() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", ["llama", pytest.param("bloom", marks=pytest.mark.slow)])
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_gradient_of_a_step_is_that_of_the_mean_over_all_loss_tokens(
    family: str, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways, plain = {}, settings(tmp_path, family, steps=1)
    for passes in (1, 4):
        for packing in (False, True):
            name = f"{passes}-{packing}"
            # A step of 8 examples in few or in more passes of each process; packed, each of one row.
            size = {"micro_batch_size": 8 // (passes * processes), "micro_batch_tokens": 10_000}
            if packing:
                size = {"micro_batch_tokens": 1024 if passes == 1 else 48}
            training = {**size, "packing": packing, "max_length": 96, "max_grad_norm": 1e9}
            caught = {"replay": None, "catch": {"path": str(tmp_path / f"{name}.safetensors")}}
            ways[name] = settings(tmp_path, family, steps=1, strategy=caught, **training)
    (tmp_path / "ways.json").write_text(json.dumps(ways), encoding="utf-8")
    if processes == 1:
        monkeypatch.setattr(AlignTrainer, "training_step", AlignTrainer.training_step)  # set back at the end
        monkeypatch.setitem(STRATEGIES._places, "catch", "")
        gradients.main(tmp_path)
    else:
        start = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
        command = [sys.executable, *start, gradients.__file__, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
    expected = by_hand(tmp_path, plain)
    taken = {name: int((tmp_path / f"{name}.passes").read_text(encoding="utf-8")) for name in ways}
    for packing in (False, True):
        least = 4 // processes if packing else 4  # 8 examples fill but 4 rows
        assert taken[f"1-{packing}"] < least <= taken[f"4-{packing}"], taken
    for name in ways:
        ours = load_file(tmp_path / f"{name}.safetensors")
        assert ours.keys() == expected.keys()
        for weight, gradient in expected.items():
            assert float((ours[weight] - gradient).abs().max()) < 1e-6, (name, weight)
