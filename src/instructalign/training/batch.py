"""Examples as the model takes them, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from instructalign.records import Instruction
from instructalign.training.encode import Codec, Encoded, fit


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a token counts in the loss: `answer` on the answer, `prompt` on the question before it."""

    answer: float = 1.0
    prompt: float = 0.0


class Encoder:
    """Turns instructions into training examples of bounded length.

    Args:
        codec: the model's way with prompts and answers.
        max_length: tokens that prompt and answer may have together; for encoder-decoder models each.
    """

    def __init__(self, codec: Codec, max_length: int) -> None:
        self.codec = codec
        self.max_length = max_length
        self._end: int | None = codec.tokenizer.eos_token_id
        self._opening = codec.opening()

    def __call__(self, instruction: Instruction) -> tuple[Encoded, list[str]]:
        """The example, and what had to be cut from it: of `prompt cut`, `answer cut`, `answer without tokens`."""
        prompt, answer = self.codec.pair(instruction.prompt, instruction.answer)
        if self.codec.encoder_decoder:
            kept_prompt, _ = fit(prompt, [], None, self.max_length)
            _, kept_answer = fit([], answer, self._end, self.max_length)
        else:
            kept_prompt, kept_answer = fit(prompt, answer, self._end, self.max_length, self._opening)
        cuts = []
        if len(kept_prompt) < len(prompt):
            cuts.append("prompt cut")
        if len(kept_answer) < len(answer) + (self._end is not None):
            cuts.append("answer cut")
        if not answer:
            cuts.append("answer without tokens")
        return Encoded(kept_prompt, kept_answer, instruction.objective, instruction.target), cuts


def collate(
    examples: Sequence[tuple[Encoded, list[str]]],
    codec: Codec,
    weights: LossWeights,
    rows: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Puts examples into one batch, padded on the right, where causal attention never looks.

    Args:
        examples: each with what was cut from it.
        codec: the model's way with texts.
        weights: what prompt and answer tokens count in the loss.
        rows: how many examples stand in each row, packed one behind the other; None for one in each.

    Returns:
        A dictionary of

        * `inputs`: what the model is called with: token ids, [batch, seq]; where rows are packed, each token's
          position in its own example, [batch, seq], which keeps the examples apart; for encoder-decoder models
          the encoder's mask, [batch, seq] (their decoder's input comes from `targets`);
        * `targets`: the token that each position should predict, [batch, seq];
        * `weights`: what that prediction counts, float [batch, seq], 0 for padding;
        * `positions`: where it counts, as places in the flattened `weights`, in order, [counted];
        * `examples`: by counted position, the number of its example in the lists below, [counted];
        * for each example `kinds` (its objective), `languages` (the one asked for), `lengths` (its tokens),
          `counted` and `masses` (how many of them count in the loss, and how much in all);
        * `cuts`: what was cut; `padded`: tokens that go through the model, padding included.
    """
    pad = codec.tokenizer.pad_token_id
    encoded = [example for example, _ in examples]
    if codec.encoder_decoder:
        inputs, targets, counted, owners = _encoder_decoder(encoded, pad)
    else:
        inputs, targets, counted, owners = _decoder_only(encoded, pad, weights, rows)
    positions = counted.flatten().nonzero()[:, 0]
    owner = owners.flatten()[positions]
    mass = torch.bincount(owner, counted.flatten()[positions], minlength=len(encoded))
    return {
        "inputs": inputs,
        "targets": targets,
        "weights": counted,
        "positions": positions,
        "examples": owner,
        "kinds": [example.kind for example in encoded],
        "languages": [example.target for example in encoded],
        "lengths": [len(example) for example in encoded],
        "counted": torch.bincount(owner, minlength=len(encoded)).tolist(),
        "masses": mass.tolist(),
        "cuts": [cut for _, cuts in examples for cut in cuts],
        "padded": inputs["input_ids"].numel() + (targets.numel() if codec.encoder_decoder else 0),
    }


def example_of(batch: dict[str, Any]) -> torch.Tensor:
    """By counted position, the place in `kinds` and `numbers` of the example it belongs to, [counted]."""
    owner: torch.Tensor = batch["examples"]
    return owner


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, or a part of it, with its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(inner, device) for key, inner in value.items()}
    return value


def _decoder_only(
    examples: Sequence[Encoded], pad: int, weights: LossWeights, rows: Sequence[int] | None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    ends = list(accumulate(rows if rows is not None else [1] * len(examples)))
    packed = [range(end - size, end) for end, size in zip(ends, rows or [1] * len(examples), strict=True)]
    width = max(1, max(sum(len(examples[number]) for number in row) for row in packed))
    shape = (len(packed), width)
    ids, targets = torch.full(shape, pad), torch.full(shape, pad)
    counted, owners = torch.zeros(shape), torch.zeros(shape, dtype=torch.long)
    places = torch.arange(width).repeat(len(packed), 1)
    for row, numbers in enumerate(packed):
        start = 0
        for number in numbers:
            example = examples[number]
            tokens = torch.tensor(example.prompt + example.answer, dtype=torch.long)
            end, answer = start + len(tokens), start + max(len(example.prompt) - 1, 0)
            ids[row, start:end] = tokens
            # Position t predicts token t + 1, so the last position of an example predicts nothing.
            targets[row, start : max(end - 1, start)] = tokens[1:]
            counted[row, start:answer] = weights.prompt
            counted[row, answer : max(end - 1, answer)] = weights.answer
            owners[row, start:end] = number
            places[row, start:] = torch.arange(width - start)
            start = end
        places[row, start:] = torch.arange(width - start)  # padding behind packed examples is apart from them
    inputs = {"input_ids": ids} if rows is None else {"input_ids": ids, "position_ids": places}
    return inputs, targets, counted, owners


def _encoder_decoder(
    examples: Sequence[Encoded], pad: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    prompts = _padded([example.prompt for example in examples], pad)
    targets = _padded([example.answer for example in examples], pad)
    counted = _mask([example.answer for example in examples], targets.shape[1]).float()
    mask = _mask([example.prompt for example in examples], prompts.shape[1])
    owners = torch.arange(len(examples))[:, None].expand_as(targets)
    return {"input_ids": prompts, "attention_mask": mask}, targets, counted, owners


def _padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    width = max(1, max(len(row) for row in rows))
    padded = torch.full((len(rows), width), pad, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


def _mask(rows: Sequence[Sized], width: int) -> torch.Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(width)[None, :] < lengths[:, None]).long()
