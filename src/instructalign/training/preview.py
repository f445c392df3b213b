"""Examples of the training stream as the model will see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from instructalign.config import Config
from instructalign.mixture.training_data import TrainingData
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import load_codec
from instructalign.training.vocabulary import extend_tokenizer
from instructalign.types import Instruction


@dataclass(frozen=True, slots=True)
class PreviewExample:
    """One example of the stream.

    Attributes:
        index: its position in the stream.
        instruction: where it comes from.
        prompt: the prompt as the model sees it, truncated.
        answer: the answer as the model sees it, with its end token, truncated.
        prompt_tokens, answer_tokens: their lengths in tokens.
        truncated: what was truncated, as `ExampleEncoder` says it.
        loss_on_prompt: whether prompt tokens count in the loss as well.
    """

    index: int
    instruction: Instruction
    prompt: str
    answer: str
    prompt_tokens: int
    answer_tokens: int
    truncated: tuple[str, ...]
    loss_on_prompt: bool


def preview(config: Config, data: TrainingData, count: int = 5, step: int = 0) -> list[PreviewExample]:
    """The first examples of an optimizer step.

    Args:
        config: the run's configuration.
        data: what it trains on.
        count: how many examples; more than a step has continue into the next.
        step: which step, counted from 0.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    codec = load_codec(config.model)
    if config.model.vocabulary:
        extension = extend_tokenizer(codec.tokenizer, config, data.corpus, data.heldout, data.replay, data.taught)
        codec = replace(codec, tokenizer=extension.tokenizer)
    encoder = ExampleEncoder(codec, config.training.max_length)
    first = step * config.training.batch_size
    shown = []
    for index in range(first, first + count):
        instruction = data.mixture[index]
        encoded = encoder(instruction)
        shown.append(
            PreviewExample(
                index=index,
                instruction=instruction,
                prompt=str(codec.tokenizer.decode(encoded.prompt)),
                answer=str(codec.tokenizer.decode(encoded.answer)),
                prompt_tokens=len(encoded.prompt),
                answer_tokens=len(encoded.answer),
                truncated=encoded.truncated,
                loss_on_prompt=config.training.loss_on == "all" and not codec.encoder_decoder,
            )
        )
    return shown
