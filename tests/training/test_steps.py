"""The steps of a run: which examples are in each, whatever else is chosen, and how much of them is padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_tokenization import codec, instruction
from torch.utils.data import DataLoader

from instructalign.config_file import build_config
from instructalign.mixture.training_data import prepare_data
from instructalign.training.batching import (
    ExampleEncoder,
    LossWeights,
    MicroBatchLimits,
    RemainingSteps,
    StepBatches,
)
from instructalign.training.tokenization import Codec
from instructalign.training.train import micro_batch_limits
from instructalign.types import Instruction
from tiny import tiny_tokenizer


class Numbered:
    """A stream whose i-th example has i % 7 + 1 words; it knows what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> Instruction:
        self.asked.append(index)
        return instruction("w " * (index % 7 + 1), str(index))


def steps(stream: Any = None, encoder: ExampleEncoder | None = None, **options: Any) -> StepBatches:
    options = {"batch_size": 12, "limits": MicroBatchLimits(rows=4), "weights": LossWeights(), **options}
    return StepBatches(stream or Numbered(), encoder or ExampleEncoder(codec(), 32), **options)


def examples(batches: StepBatches, step: int) -> list[tuple[int, list[int]]]:
    """Number and tokens of every example of a step, read back from the batches."""
    found = []
    for batch in batches[step]:
        ids = [token for row in batch["inputs"]["input_ids"].tolist() for token in row if token != 0]
        for number, length in zip(batch["numbers"], batch["lengths"], strict=True):
            found.append((number, ids[:length]))
            ids = ids[length:]
        assert not ids
    return found


WAYS: list[dict[str, Any]] = [
    {"limits": MicroBatchLimits(rows=4)},
    {"limits": MicroBatchLimits(rows=1)},
    {"limits": MicroBatchLimits(tokens=20, overhead=3)},
    {"limits": MicroBatchLimits(), "row_length": 30},
    {"limits": MicroBatchLimits(tokens=40), "row_length": 16},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_examples_of_the_first_steps_are_the_same_whatever_else_is_chosen(
    way: dict[str, Any], processes: int
) -> None:
    plain = steps(limits=MicroBatchLimits())
    shares = [steps(process=process, processes=processes, **way) for process in range(processes)]
    for step in range(6):
        found = [example for share in shares for example in examples(share, step)]
        assert sorted(found) == sorted(examples(plain, step))
        assert sorted(number for number, _ in found) == list(range(12 * step, 12 * step + 12))
        assert len({len(share[step]) for share in shares}) == 1
        assert len({batch["step_mass"] for share in shares for batch in share[step]}) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_neither_examples_nor_their_order(workers: int) -> None:
    batches = steps(encoder=ExampleEncoder(Codec(tiny_tokenizer(), False), 32))
    loader: Any = DataLoader(batches, batch_size=None, sampler=RemainingSteps(4, lambda: 1), num_workers=workers)
    assert [[batch["numbers"] for batch in step] for step in loader] == [
        [batch["numbers"] for batch in batches[step]] for step in (1, 2, 3)
    ]


def test_a_run_resumes_at_step_40_000_without_looking_back() -> None:
    stream = Numbered()
    batches = steps(stream)
    sampler = RemainingSteps(50_000, lambda: 40_000)
    assert batches[next(iter(sampler))]
    assert sorted(stream.asked) == list(range(480_000, 480_012))
    assert len(list(sampler)) == 10_000


@pytest.mark.parametrize("weights", [LossWeights(), LossWeights(prompt=0.25)])
@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_what_counts_in_a_step_is_what_its_batches_count(weights: LossWeights, encoder_decoder: bool) -> None:
    batches = steps(encoder=ExampleEncoder(codec(encoder_decoder), 32), weights=weights)
    for step in range(3):
        mass = sum(float(batch["weights"].sum()) for batch in batches[step])
        assert batches[step][0]["step_mass"] == pytest.approx(mass)
        assert sum(sum(batch["masses"]) for batch in batches[step]) == pytest.approx(mass)


def test_packed_examples_keep_their_positions_targets_and_owners() -> None:
    [batch] = steps(batch_size=3, limits=MicroBatchLimits(), row_length=100)[0]
    # Prompts of 1, 2 and 3 words after a first token, an answer of one word (its length: 1), and the end.
    assert batch["inputs"]["input_ids"].tolist() == [[100, 1, 1, 99, 100, 1, 1, 1, 99, 100, 1, 1, 1, 1, 99]]
    assert batch["inputs"]["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]]
    assert batch["positions"].tolist() == [1, 2, 6, 7, 12, 13]
    assert batch["targets"].flatten()[batch["positions"]].tolist() == [1, 99, 1, 99, 1, 99]
    assert batch["examples"].tolist() == [0, 0, 1, 1, 2, 2]
    assert (batch["lengths"], batch["counted"], batch["padded"]) == ([4, 5, 6], [2, 2, 2], 15)


def test_padding_in_a_packed_row_is_an_example_of_its_own() -> None:
    [batch] = steps(batch_size=2, limits=MicroBatchLimits(overhead=9), row_length=5)[0]
    assert batch["inputs"]["position_ids"].tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 3, 4]]


def test_padding_is_under_five_per_cent_on_flores(shared_data: Path) -> None:
    config = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng", "ind"], "new": ["jav", "sun", "min"]},
            "corpora": [{"format": "flores", "path": str(shared_data / "flores200"), "splits": ["dev"]}],
            "training": {"steps": 10, "max_length": 512},
        },
        folder=shared_data,
    )
    encoder = ExampleEncoder(Codec(tiny_tokenizer(), False), 512)
    batches = StepBatches(
        prepare_data(config).mixture,
        encoder,
        batch_size=32,
        limits=MicroBatchLimits(tokens=4096, overhead=micro_batch_limits(config.training, "cpu").overhead),
        weights=LossWeights(),
    )
    done = [batch for step in range(10) for batch in batches[step]]
    padded, real = (sum(sizes) for sizes in zip(*((b["padded"], sum(b["lengths"])) for b in done), strict=True))
    assert 1 - real / padded < 0.05
    assert max(batch["padded"] for batch in done) <= 4096
    assert all(torch.isfinite(batch["weights"]).all() for batch in done)
