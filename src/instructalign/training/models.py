"""Loading models and tokenizers, and what training changes in a model or around its call."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from instructalign.config import ModelConfig
from instructalign.errors import ModelError, first_line
from instructalign.files import file_hash, text_hash
from instructalign.hub_access import hub_problem, prepare_hub
from instructalign.plugins import toy_base
from instructalign.training.chat import load_chat_template
from instructalign.training.tokenization import Codec
from instructalign.training.weight_files import damage_of, damaged_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it wherever it is installed

_HASHED = (
    "*.safetensors",
    "*.bin",
    "config.json",
    "tokenizer*",
    "*.model",
    "vocab*",
    "merges.txt",
    "chat_template.*",
    "additional_chat_templates/*",
)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use, with what its texts need.

    Attributes:
        model: the network, in evaluation mode.
        codec: how prompts and answers become tokens.
        name: the folder or Hub name it came from.
    """

    model: PreTrainedModel
    codec: Codec
    name: str

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, which has a padding token."""
        return self.codec.tokenizer

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model has an encoder and a decoder."""
        return self.codec.encoder_decoder


def load_model(
    model: ModelConfig | str, base: str | None = None, *, quantised: bool = False, trainable: bool = False
) -> LoadedModel:
    """Loads a model and its tokenizer from a folder, the Hub, or the toy family (`toy`).

    Args:
        model: the configured model; a name alone stands for a configuration of defaults.
        base: a folder or Hub name to load with these options in place of the configured one.
        trainable: merges the adapter that a folder holds into the model beneath, to be trained as any other;
            without it the adapter stays apart, and all weights are frozen.
        quantised: keeps linear layers in 4 bits (NF4 with double quantisation; Dettmers et al. 2023, QLoRA).

    Raises:
        ModelError: the model or its tokenizer cannot be loaded; the message says what is missing.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = ModelConfig(base=model) if isinstance(model, str) else model
    if base is not None:
        config = config.model_copy(update={"base": base, "revision": None})
    codec = load_codec(config)
    factory: Any = AutoModelForSeq2SeqLM if codec.encoder_decoder else AutoModelForCausalLM
    options: dict[str, Any] = _hub_options(config)
    if quantised:
        options["quantization_config"] = _four_bits(config.dtype)
    place = resolve_model(config.base)
    check_weights(config.base)
    beneath = _base_of(place) if trainable else None
    if beneath is not None and quantised:
        raise ModelError(
            f"{config.base} is an adapter, which cannot be merged into a base of 4 bits: merge it first (PEFT's "
            "merge_and_unload), or set model.adapter.quantised: false."
        )
    with quiet_loading():
        try:
            dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
            network = factory.from_pretrained(beneath or place, dtype=dtype, **options)
            if beneath is not None:
                from peft import PeftModel

                network = PeftModel.from_pretrained(network, place).merge_and_unload()
                network.requires_grad_(True)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(_unloadable(config.base, place, error)) from None
    network.eval()
    _complete(network, codec, config)
    # bitsandbytes 0.50 packs 4-bit weights anew on a CPU when a layer first runs without a gradient, for good, and
    # its routine for packed weights has no backward pass: gradients would be missing from then on.
    for layer in network.modules() if quantised else ():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return LoadedModel(network, codec, config.base)


def check_decoder_start(model_config: Any, config: ModelConfig) -> None:
    """Checks that an encoder-decoder model knows, and has, the token that its decoder begins with.

    Raises:
        ModelError: it does not.
    """
    decoder = getattr(model_config, "is_encoder_decoder", False)
    if decoder and _decoder_start(model_config, config) is None:
        raise ModelError(
            f"the configuration of {config.base} has no decoder_start_token_id, the token that its decoder begins "
            f"with. Set model.decoder_start_token_id: for T5 and mT5 it is that of padding "
            f"({getattr(model_config, 'pad_token_id', None)} here), for BART the end token "
            f"({getattr(model_config, 'eos_token_id', None)} here)."
        )
    start, rows = _decoder_start(model_config, config), getattr(model_config, "vocab_size", None)
    if decoder and start is not None and rows is not None and start >= rows:
        raise ModelError(
            f"the decoder of {config.base} is to begin with token {start}, but has {rows} embeddings (ids from "
            "0). Set model.decoder_start_token_id."
        )


def _decoder_start(model_config: Any, config: ModelConfig) -> int | None:
    if config.decoder_start_token_id is not None:
        return config.decoder_start_token_id
    found: int | None = getattr(model_config, "decoder_start_token_id", None)
    return found


def _complete(network: Any, codec: Codec, config: ModelConfig) -> None:
    """Sets special ids that a model's own files lack, so that the trained model has them too."""
    if codec.encoder_decoder:
        start = _decoder_start(network.config, config)
        network.config.decoder_start_token_id = start
        network.generation_config.decoder_start_token_id = start
        if getattr(network.config, "pad_token_id", None) is None:  # T5 shifts its labels with it
            network.config.pad_token_id = codec.tokenizer.pad_token_id
    if codec.chat and codec.chat.turn_end is not None:
        listed = network.generation_config.eos_token_id
        ends = listed if isinstance(listed, list) else [listed]
        if codec.chat.turn_end not in ends:
            network.generation_config.eos_token_id = [
                *(end for end in ends if end is not None),
                codec.chat.turn_end,
            ]


def _hub_options(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def _four_bits(dtype: str) -> Any:
    """How QLoRA keeps the base.

    Raises:
        ModelError: the library that does it is not installed.
    """
    from transformers import BitsAndBytesConfig

    settings: Any = BitsAndBytesConfig
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.adapter.quantised needs bitsandbytes, which is not installed: "
            "pip install 'instructalign[quantised]'"
        )
    return settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else getattr(torch, dtype),
    )


def load_codec(config: ModelConfig) -> Codec:
    """How a model's prompts and answers become tokens; its weights are not loaded.

    Raises:
        ModelError: the model's configuration or tokenizer cannot be loaded.
    """
    model_config = load_model_config(config)
    check_decoder_start(model_config, config)
    tokenizer = load_tokenizer(config.base, **_hub_options(config))
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    limits = (getattr(model_config, name, None) for name in names)
    context = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    if context is None and 0 < tokenizer.model_max_length < 1_000_000:  # a huge number stands for none
        context = int(tokenizer.model_max_length)
    return Codec(
        tokenizer,
        bool(getattr(model_config, "is_encoder_decoder", False)),
        load_chat_template(tokenizer, config),
        context,
    )


def load_model_config(config: ModelConfig) -> Any:
    """A model's own configuration, without its weights; that of the model beneath, where it is an adapter.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoConfig

    place = resolve_model(config.base)
    try:
        return AutoConfig.from_pretrained(_base_of(place) or place, **_hub_options(config))
    except (OSError, ValueError) as error:
        raise ModelError(_unloadable(config.base, place, error)) from None


def load_tokenizer(base: str, **options: Any) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer and sees to it that it has a padding token.

    Raises:
        ModelError: there is none, or it has no token that padding could use.
    """
    from transformers import AutoTokenizer

    place = resolve_model(base)
    folder = Path(place)
    if folder.is_dir() and not _has_tokenizer(folder):
        beneath = _base_of(place)
        if beneath is not None:  # PEFT saves an adapter without a tokenizer: it is the base's
            return load_tokenizer(beneath, **options)
        raise ModelError(
            f"{base} holds a model but no tokenizer (found: {_listing(folder)}). Save it there with "
            "tokenizer.save_pretrained(folder)."
        )
    files = (path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)) if folder.is_dir() else ()
    for path in files:
        if path.is_file() and (damage := damage_of(path)):
            raise ModelError(f"{path} {damage}.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **options)
    except ImportError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ModelError(_bad_tokenizer(base, error)) from None
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.added_tokens_decoder)):
        raise ModelError(
            f"the tokenizer of {base} has no vocabulary but its special tokens: a file of it is missing. Save it "
            "again with tokenizer.save_pretrained(folder)."
        )
    # Says that it has warned of long texts already: we truncate and count them ourselves (`truncate_pair`).
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if tokenizer.pad_token_id is None:
        substitute = tokenizer.eos_token or tokenizer.unk_token
        if substitute is None:
            raise ModelError(f"the tokenizer of {base} has no padding, end or unknown token; add a pad_token.")
        tokenizer.pad_token = substitute
    return tokenizer


_TOKENIZER_FILES = ("tokenizer*", "*.model", "vocab*", "*.tiktoken", "*.spm", "*.bpe", "*.vocab", "merges.txt")


def _has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a file that some tokenizer of transformers reads."""
    return any(next(folder.glob(pattern), None) is not None for pattern in _TOKENIZER_FILES)


def _bad_tokenizer(base: str, error: Exception) -> str:
    from tokenizers import __version__

    text = first_line(error)
    if "did not match any variant" in text or "unknown variant" in text:
        return (
            f"the tokenizer.json of {base} has a part that tokenizers {__version__} does not know ({text}): it "
            "was written by a newer version, or is damaged. Update: pip install --upgrade tokenizers transformers"
        )
    return f"the tokenizer of {base} cannot be loaded: {hub_problem(error) or text}"


def resolve_model(base: str) -> str:
    """The folder or Hub name that a configured base stands for.

    Raises:
        ModelError: it is written as a path and no such folder exists, or the folder has no model.
    """
    if base == "toy":
        return str(toy_base())
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists() and _base_of(base) is None:
            raise ModelError(f"{base} is not a model folder: it has no config.json (found: {_listing(folder)}).")
        return str(folder)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise ModelError(f"the model folder {base} does not exist.")
    prepare_hub()
    return base


WEIGHT_ADVICE = "Save or download the model again, or set model.base to another."


def check_weights(base: str) -> None:
    """Checks the weight files of a model without loading them.

    Raises:
        ModelError: one is damaged, missing, or something else was saved in its place.
    """
    if damage := weight_problem(base):
        raise ModelError(f"{damage} {WEIGHT_ADVICE}")


def weight_problem(base: str) -> str:
    """What is wrong with the weight files of a model, as a sentence; empty if nothing is, or it is on the Hub."""
    folder = Path(resolve_model(base))
    if not folder.is_dir():
        return ""
    beneath = _base_of(str(folder))
    return damaged_weights(folder) or (weight_problem(beneath) if beneath else "")


def model_hash(base: str, revision: str | None = None) -> str:
    """A short hash of a model's weights, configuration and tokenizer (for a Hub name: of its commit).

    Raises:
        ModelError: there is neither such a folder nor such a name on the Hub.
    """
    place = resolve_model(base)
    folder = Path(place)
    if folder.is_dir():
        files = sorted({path for pattern in _HASHED for path in folder.glob(pattern)})
        hashes = [(path.name, file_hash(path)) for path in files]
        beneath = _base_of(place)
        return text_hash([*hashes, model_hash(beneath)] if beneath else hashes)[:12]
    config = load_model_config(ModelConfig(base=base, revision=revision))
    # Private, but the only place where transformers keeps the commit that a branch or tag was resolved to.
    return str(getattr(config, "_commit_hash", None) or revision or place)[:12]


def _base_of(place: str) -> str | None:
    """The base of the adapter that a folder holds, where it was kept apart; None where it holds none.

    Raises:
        ModelError: the adapter does not name its base, or that is not there.
    """
    path = Path(place).expanduser() / "adapter_config.json"
    if not path.is_file():
        return None
    base: str | None = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if base is None:
        raise ModelError(f"{path} does not say what model the adapter belongs to (base_model_name_or_path).")
    try:
        return resolve_model(base)
    except ModelError as error:
        raise ModelError(f"{path} names the base of the adapter (base_model_name_or_path): {error}") from None


def _unloadable(base: str, place: str, error: Exception) -> str:
    reason = hub_problem(error)
    if Path(place).is_dir():
        beneath = _base_of(place)
        if reason and beneath and not Path(beneath).is_dir():
            return f"the base {beneath!r} of the adapter in {base} cannot be loaded from the Hub: {reason}."
        return f"the model in {base} cannot be loaded: {first_line(error)}"
    if reason:
        return f"the model {base!r} is no folder and cannot be loaded from the Hub: {reason}."
    return (
        f"the model {base!r} was neither found as a folder nor on the Hub: {first_line(error).rstrip('.')}. "
        "Give an existing folder, or check the name, the network and, for gated models, your access token."
    )


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"


# -- around a model ------------------------------------------------------------------------------------------


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps transformers from drawing its own progress bars inside ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def logits_at(model: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model's output layer runs only at some positions.

    The logits of a call then have the shape [chosen, vocabulary], in the order of `positions.nonzero()`, instead
    of [batch, seq, vocabulary]: with 250 880 tokens in the vocabulary and a loss on answers only, that saves most
    of the work and memory of a step. Works for every model whose logits come from its output embedding.

    Args:
        model: a `PreTrainedModel`, possibly wrapped for peft or for distribution.
        positions: bool [batch, seq]; for encoder-decoder models over the decoder's sequence. Or places in the
            flattened sequence, [chosen], which need no synchronisation with a GPU to find.
    """
    head = unwrapped(model).get_output_embeddings()

    def choose(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        if positions.dtype == torch.bool:
            return (hidden[positions], *inputs[1:])
        return (hidden.flatten(0, -2).index_select(0, positions), *inputs[1:])

    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on a kind of device, as `training.precision` names it; nothing for float32."""
    return torch.autocast(device, getattr(torch, precision)) if precision != "float32" else nullcontext()


def unwrapped(model: torch.nn.Module) -> Any:
    """The model inside what it was wrapped in for distribution."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model


def checkpoint_activations(model: Any) -> None:
    """Makes a model compute activations again in the backward pass instead of keeping them in memory."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is not None:
        enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:  # its name in transformers before 5.20
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def compile_layers(model: Any) -> None:
    """Lets PyTorch compile a model's layers when they first run, each kind once for all layers and lengths.

    Everything around the layers, the loss included, stays as it is.

    Raises:
        ModelError: the model does not say which of its modules are layers.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())  # private, and what FSDP wraps by as well
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ModelError(
            f"training.compile compiles a model's layers, and {type(model).__name__} does not say which of its "
            "modules are layers (_no_split_modules). Set training.compile: false."
        )
    for layer in layers:
        layer.compile(dynamic=True)
