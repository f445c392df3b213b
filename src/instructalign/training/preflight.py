"""All checks before the first step: whatever would make a run fail later, or be worthless, is refused here."""

from __future__ import annotations

import logging
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instructalign.config import Config
from instructalign.data import Corpus
from instructalign.errors import ModelError, TrainingError
from instructalign.files import format_bytes
from instructalign.instructions import load_templates, worded
from instructalign.mixture.training_data import TrainingData, refuse_repeats
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel, check_weights, load_codec, load_model_config
from instructalign.training.monitors import half_sentences
from instructalign.training.requirements import NO_HELDOUT_SENTENCES, NO_KNOWN_SENTENCE, missing_packages
from instructalign.training.tokenization import Codec

NEARLY_FULL = 0.8  # share of free space from which on a run is warned
_EXAMPLES = 256  # looked at before training starts

logger = logging.getLogger(__name__)


def check_setup(config: Config) -> Codec:
    """The checks that need neither the data nor the base's weights in memory, and little time.

    Returns:
        The tokenizer that the examples will be encoded with.

    Raises:
        ModelError, TrainingError: the model or this machine do not allow what is configured.
    """
    check_machine(config)
    codec = load_codec(config.model)
    check_weights(config.model.base)
    check_plain_text(config, codec)
    check_positions(config, load_model_config(config.model))
    check_templates(config, codec)
    return codec


def check_examples(config: Config, data: TrainingData, codec: Codec) -> None:
    """Checks the training data as the model would see them.

    Raises:
        ConfigError: replay examples would be repeated, and may not.
        TrainingError: none of the first examples has an answer that a loss could be computed on.
    """
    refuse_repeats(config, data.mixture)
    check_monitors(config, data.heldout)
    encoder = ExampleEncoder(codec, config.training.max_length)
    lengths = [len(encoder(data.mixture[i]).answer) for i in range(_EXAMPLES)]
    shortest = 2 if codec.end is not None else 1
    if max(lengths) < shortest:
        raise TrainingError(
            f"none of the first {_EXAMPLES} examples has an answer of at least one token, so every label would be "
            "masked. Look at them with `instructalign preview`."
        )


def check_monitors(config: Config, heldout: Corpus) -> None:
    """Checks that there are held-out sentences for what the run measures while it trains.

    Raises:
        TrainingError: there are none.
    """
    if config.training.evaluate_every and len(heldout) < 2:
        raise TrainingError(NO_HELDOUT_SENTENCES)
    if config.training.kl and next(half_sentences(heldout, config.languages.known), None) is None:
        raise TrainingError(NO_KNOWN_SENTENCE)


def check_machine(config: Config) -> None:
    """Checks that this machine has the GPU and the packages that a configuration or its launcher asks for.

    Raises:
        TrainingError: it has not.
    """
    training = config.training
    if training.precision == "float16" and not torch.cuda.is_available():
        raise TrainingError(
            "training.precision is float16, which needs a GPU, and none is available. Use bfloat16 or float32: "
            "--set training.precision=float32"
        )
    if problems := [*missing_packages(config)]:
        raise TrainingError("; ".join(problems))


def check_plain_text(config: Config, codec: Codec) -> None:
    """Checks that the model can be trained on text without a prompt.

    Raises:
        TrainingError: it has an encoder, which would be given nothing.
    """
    lm = config.instructions.objectives.get("lm")
    if codec.encoder_decoder and lm is not None and lm.options["form"] == "plain":
        raise TrainingError(
            f"instructions.objectives.lm.form is plain, but {config.model.base} has an encoder, which would be "
            "given nothing. Set it to prefix (the beginning goes to the encoder) or to chat (with a prompt)."
        )


def check_templates(config: Config, codec: Codec) -> None:
    """Checks that the longest template leaves room for an answer.

    Raises:
        TrainingError: training.max_length is below it.
    """
    longest, name = longest_template(config, codec)
    if longest > config.training.max_length:
        raise TrainingError(
            f"training.max_length is {config.training.max_length}, but the template {name} alone takes {longest} "
            "tokens, so every example made from it would be truncated. Raise training.max_length (`instructalign "
            "doctor` shows the lengths), or choose others under instructions.templates."
        )


def longest_template(config: Config, codec: Codec) -> tuple[int, str]:
    """The tokens that the longest template takes with the shortest answer, and its name."""
    # One token of an answer and the end token; an encoder-decoder model has its answers elsewhere.
    rest = 0 if codec.encoder_decoder else 2
    empty: defaultdict[str, str] = defaultdict(str)
    chosen = load_templates(config.instructions.templates, worded(config.instructions.objectives))
    lengths = (
        (len(codec.pair(template.prompt.format_map(empty), "x")[0]) + rest, template.id)
        for templates in chosen.values()
        for template in templates
    )
    return max(lengths, default=(0, ""))


def check_positions(config: Config, model_config: Any) -> None:
    """Checks examples against the positions of a decoder-only model; encoder-decoder models have relative ones.

    Raises:
        TrainingError: training.max_length is above what the model can read.
    """
    positions = getattr(model_config, "max_position_embeddings", None)
    decoder_only = not getattr(model_config, "is_encoder_decoder", False)
    if positions and decoder_only and config.training.max_length > positions:
        raise TrainingError(
            f"training.max_length is {config.training.max_length}, but {config.model.base} reads at most "
            f"{positions} tokens: --set training.max_length={positions}"
        )


def check_tokenizer(loaded: LoadedModel) -> None:
    """Checks that the tokenizer is the model's.

    Special tokens that no text contains may be outside the embeddings, as those for images are in the text-only
    models of a family; one that pads, begins or ends a text, or that the chat template writes, may not.

    Raises:
        ModelError: the tokenizer can produce a token that the model has no embedding for.
    """
    tokenizer = loaded.tokenizer
    model: Any = loaded.model
    rows = model.get_input_embeddings().weight.shape[0]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, loaded.codec.end}
    used.update(loaded.codec.pair("a", "a")[0])  # a chat template's, too
    numbers = ((number, token) for token, number in tokenizer.get_vocab().items())
    number, token = max(pair for pair in numbers if pair[0] not in special or pair[0] in used)
    if number >= rows:
        raise ModelError(
            f"the tokenizer of {loaded.name} has the token {token!r} with id {number}, but the model has {rows} "
            "embeddings (ids from 0): they do not belong together. Put the model's own tokenizer into its folder, "
            "or, if tokens were added, save the model after resize_token_embeddings."
        )


def launched() -> tuple[str, int]:
    """The layout of the weights and the number of processes that this process was launched with."""
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return "fsdp" if sharded else "whole", int(os.environ.get("WORLD_SIZE", "1"))


def check_launch(config: Config, loaded: LoadedModel, layout: str, processes: int) -> None:
    """Checks that the processes can share the batch, and, with FSDP, the weights.

    Args:
        config, loaded: the run's configuration and base.
        layout: as `AlignTrainer.layout` says it.
        processes: how many were launched.

    Raises:
        TrainingError: the batch size is no multiple of the number of processes; or FSDP would have to shard an
            embedding that encoder and decoder share, or one of which single rows are trained.
    """
    if config.training.batch_size % processes:
        raise TrainingError(
            f"training.batch_size ({config.training.batch_size}) must be a multiple of the number of processes "
            f"({processes}), which share each step."
        )
    instead = "Launch with configs/accelerate/ddp.yaml, or with DeepSpeed."
    if layout == "fsdp" and loaded.encoder_decoder:
        raise TrainingError(
            f"FSDP cannot shard {loaded.name}: encoder and decoder share their embeddings. {instead}"
        )
    if layout == "fsdp" and config.model.adapter and config.model.adapter.train_embeddings == "new":
        raise TrainingError(
            "FSDP shards the embedding, of which model.adapter.train_embeddings: new trains single rows. "
            f"{instead} Or set it to true or false."
        )


# -- space on the disk ---------------------------------------------------------------------------------------


def check_disk(out: Path, needed: int) -> None:
    """Refuses a run whose checkpoints will not fit on the disk, and warns where they hardly will.

    Args:
        out: the run's folder; what it holds already is part of what is needed.
        needed: bytes, as `disk_bytes` says.

    Raises:
        TrainingError: less is free.
    """
    held = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    free = shutil.disk_usage(out).free + held
    need, there = format_bytes(needed), format_bytes(free)
    text = f"checkpoints and model need about {need} on the disk of {out}, and {there} are free"
    if needed > free:
        raise TrainingError(
            f"{text}. Lower training.keep_checkpoints, use model.adapter, or write to another disk with --out."
        )
    if needed > NEARLY_FULL * free:
        logger.warning("%s", text)


def disk_bytes(config: Config, total: int, trained: int, width: int, embedded: int = 0) -> int:
    """Bytes that a run's checkpoints and its model take at most at one time.

    A checkpoint holds the weights (those of an adapter alone, where there is one) and the optimizer's state. There
    is one more while it is written, and one more where early stopping keeps the best. With `model.vocabulary`, the
    extended base lies beside them.

    Args:
        config: the run's configuration.
        total, trained: number of weights, and of those that are trained.
        width: bytes of one weight.
        embedded: how many of the trained ones are embeddings.
    """
    stopping = config.training.early_stopping
    count = config.training.keep_checkpoints + 1 + bool(stopping and stopping.keep == "best")
    adapter = config.model.adapter
    saved = trained if adapter else total
    model = trained if adapter and not adapter.merge else total
    state = optimizer_bytes(config.training.optimizer, trained, embedded, width)
    extended = total if config.model.vocabulary else 0
    return (count * saved + model + extended) * width + count * state


def optimizer_bytes(optimizer: str, trained: int, embedded: int, width: int) -> int:
    """Bytes of an optimizer's state.

    Adam has two moments of each weight, with 8 bits each in its 8-bit variants; but not for embeddings, which the
    Trainer keeps out of that. Adafactor has a number for each row and column (Shazeer and Stern 2018, arXiv
    1804.04235), which is not counted here, and plain gradient descent has nothing.

    Args:
        optimizer: as `training.optimizer` calls it.
        trained, embedded: weights that are trained, and how many of those are embeddings.
        width: bytes of one weight.
    """
    if optimizer == "adamw":
        return 2 * trained * width
    return 2 * (trained - embedded) + 2 * embedded * width if optimizer.endswith("8bit") else 0


def trained_embeddings(model: nn.Module) -> int:
    """How many of a model's trained weights are embeddings; an output layer tied to one counts once."""
    inside = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight.requires_grad
    }
    return sum(inside.values())
