"""What is looked at before the first step: whatever would make a run fail later, or worthless, is refused here."""

from __future__ import annotations

import os
from collections import defaultdict
from importlib.util import find_spec
from typing import Any

import torch

from instructalign.config import Config
from instructalign.data import Guard
from instructalign.errors import ModelError, TrainingError
from instructalign.instructions import load_templates
from instructalign.mixture.replay import check_sources
from instructalign.mixture.training_data import Data, build_instructions, read_guarded, read_rows, refuse_repeats
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel, load_codec, load_model_config
from instructalign.training.tokenization import Codec

CHECKED_EXAMPLES = 256  # examples looked at before training starts


def check_start(config: Config, guard: Guard | None = None) -> None:
    """What training would be refused for, as far as it shows without the base's weights and in a short time.

    Before a base is evaluated, which may take hours, so that a misspelt column does not come to light behind it.

    Args:
        config: the run's configuration.
        guard: test items to look for in the corpora.

    Raises:
        DataError, ModelError, TrainingError: the corpora, the past data, the model or this machine do not allow
            what is configured.
    """
    refuse_half_precision(config)
    refuse_missing_optimizer(config)
    refuse_missing_deepspeed()
    build_instructions(config, read_guarded(config, guard)[0] if guard else read_rows(config)[0])
    check_sources(config.replay)
    codec = load_codec(config.model)
    options = {"revision": config.model.revision, "trust_remote_code": config.model.trust_remote_code}
    refuse_unreadable_length(config, load_model_config(config.model.base, **options))
    refuse_short_length(config, codec)


def check_run(config: Config, data: Data, loaded: LoadedModel, encoder: ExampleEncoder) -> None:
    """All checks that need the data or the model.

    Raises:
        ConfigError, TrainingError, ModelError: as the checks below say.
    """
    refuse_repeats(config, data.mixture)
    refuse_unknown_tokens(loaded)
    refuse_unreadable_length(config, loaded.model.config)
    refuse_short_length(config, loaded.codec)
    check_answers(data, encoder)


def check_answers(data: Data, encoder: ExampleEncoder) -> None:
    """Looks at the first examples as the model would see them.

    Raises:
        TrainingError: not one of them has an answer that a loss could be computed on.
    """
    lengths = [len(encoder(data.mixture[i])[0].answer) for i in range(CHECKED_EXAMPLES)]
    shortest_use = 2 if encoder.codec.tokenizer.eos_token_id is not None else 1
    if max(lengths) < shortest_use:
        raise TrainingError(
            f"none of the first {CHECKED_EXAMPLES} examples has an answer of at least one token, so every label "
            "would be masked. Look at them with `instructalign preview`."
        )


def refuse_half_precision(config: Config) -> None:
    """Refuses a precision that this machine cannot do.

    Raises:
        TrainingError: training.precision is float16, and there is no GPU.
    """
    if config.training.precision == "float16" and not torch.cuda.is_available():
        raise TrainingError(
            "training.precision is float16, which needs a GPU, and none is here. "
            "Use bfloat16 or float32: --set training.precision=float32"
        )


def refuse_missing_deepspeed() -> None:
    """Refuses to be launched with DeepSpeed where that is not installed.

    Raises:
        TrainingError: it is not.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true" and find_spec("deepspeed") is None:
        raise TrainingError(
            "this run was launched with DeepSpeed, which is not installed: pip install 'instructalign[deepspeed]' "
            "(or launch with configs/accelerate/fsdp2.yaml or ddp.yaml)"
        )


def refuse_unreadable_length(config: Config, settings: Any) -> None:
    """Refuses examples longer than the positions of a decoder-only model; those of the others are relative.

    Args:
        config: the run's configuration.
        settings: the model's own.

    Raises:
        TrainingError: training.max_length is above what the model can read.
    """
    positions = getattr(settings, "max_position_embeddings", None)
    decoder_only = not getattr(settings, "is_encoder_decoder", False)
    if positions and decoder_only and config.training.max_length > positions:
        raise TrainingError(
            f"training.max_length is {config.training.max_length}, but {config.model.base} reads at most "
            f"{positions} tokens: --set training.max_length={positions}"
        )


def refuse_short_length(config: Config, codec: Codec) -> None:
    """Refuses a length that a template fills before any text is put into it: every example of it would be cut.

    Raises:
        TrainingError: training.max_length is below the longest template of the chosen sets.
    """
    # One token of an answer and the end; an encoder-decoder model has its answers elsewhere.
    rest = 0 if codec.encoder_decoder else 2
    empty: defaultdict[str, str] = defaultdict(str)
    chosen = load_templates(config.instructions.templates, config.instructions.objectives)
    longest, name = max(
        (len(codec.pair(template.prompt.format_map(empty), "x")[0]) + rest, template.id)
        for templates in chosen.values()
        for template in templates
    )
    if longest > config.training.max_length:
        raise TrainingError(
            f"training.max_length is {config.training.max_length}, but the template {name} alone takes {longest} "
            "tokens before any text is put into it, so every example made of it would be cut. Raise "
            "training.max_length (`instructalign doctor` shows the lengths), or name others under "
            "instructions.templates."
        )


def refuse_unknown_tokens(loaded: LoadedModel) -> None:
    """Refuses a tokenizer that is not the model's.

    Special tokens that no text contains may lie outside the embeddings, as those for images do in the text-only
    models of a family; one that pads, begins or ends a text may not.

    Raises:
        ModelError: the tokenizer can give a token that the model has no embedding for.
    """
    tokenizer = loaded.tokenizer
    model: Any = loaded.model
    rows = model.get_input_embeddings().weight.shape[0]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}
    numbers = ((number, token) for token, number in tokenizer.get_vocab().items())
    number, token = max(pair for pair in numbers if pair[0] not in special or pair[0] in used)
    if number >= rows:
        raise ModelError(
            f"the tokenizer of {loaded.name} has the token {token!r} as number {number}, but the model has "
            f"{rows} embeddings, numbered from 0: they do not belong together. Put the model's own tokenizer into "
            "its folder, or, if tokens were added, save the model after resize_token_embeddings."
        )


def refuse_parted(config: Config, loaded: LoadedModel, layout: str) -> None:
    """Refuses what FSDP, which parts the weights among processes, cannot do.

    Args:
        config, loaded: the run's configuration and base.
        layout: as `AlignTrainer.layout` says it.

    Raises:
        TrainingError: the encoder and the decoder share their embedding, or single rows of one are trained.
    """
    instead = "Launch with configs/accelerate/ddp.yaml, or with DeepSpeed."
    if layout != "fsdp":
        return
    if loaded.encoder_decoder:
        raise TrainingError(
            f"FSDP cannot part {loaded.name}, whose encoder and decoder have one embedding between them. {instead}"
        )
    if config.model.adapter and config.model.adapter.train_embeddings == "new":
        raise TrainingError(
            "FSDP parts the embedding, of which model.adapter.train_embeddings: new trains single rows. "
            f"{instead} Or set it to true or false."
        )


def refuse_uneven(config: Config, processes: int) -> None:
    """Refuses a step that cannot be dealt out to the processes.

    Raises:
        TrainingError: the batch is no multiple of the number of processes.
    """
    if config.training.batch_size % processes:
        raise TrainingError(
            f"training.batch_size ({config.training.batch_size}) must be a multiple of the number of processes "
            f"({processes}), which share each step."
        )


def refuse_missing_optimizer(config: Config) -> None:
    """Refuses an optimizer whose package is not here.

    Raises:
        TrainingError: an 8-bit optimizer is asked for, and bitsandbytes is not installed.
    """
    optimizer = config.training.optimizer
    if optimizer.endswith("8bit") and find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"training.optimizer {optimizer} needs bitsandbytes, which is not installed: "
            "pip install 'instructalign[quantised]'. Or use adafactor, which keeps less than adamw too."
        )
