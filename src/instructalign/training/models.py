"""Loading models and tokenizers, and the changes to their modules that training needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from instructalign.config import ModelConfig
from instructalign.errors import ModelError
from instructalign.files import file_hash, text_hash
from instructalign.plugins import toy_base
from instructalign.training.tokenization import Codec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@contextmanager
def logits_at(model: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model's output layer runs only where it is wanted.

    The logits of a call then have the shape [chosen, vocabulary], in the order of `positions.nonzero()`,
    instead of [batch, seq, vocabulary]: with 250 880 tokens in the vocabulary and a loss on answers only,
    most of the work and memory of a step. Works for every model whose logits come from its output embedding.

    Args:
        model: a `PreTrainedModel`, possibly wrapped for peft or for distribution.
        positions: bool [batch, seq]; for encoder-decoder models over the decoder's sequence. Or the places of
            those wanted in the flattened sequence, [chosen], which a GPU need not be waited for to find.
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


def checkpoint_activations(model: Any) -> None:
    """Makes a model compute activations again in the backward pass instead of keeping them in memory."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is not None:
        enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:  # transformers before 5.20 calls it so
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def compile_layers(model: Any) -> None:
    """Lets PyTorch compile a model's layers when they first run, each kind once for all and for all lengths.

    What stands around the layers, the loss among it, stays as it is.

    Raises:
        ModelError: the model does not say which of its modules are layers.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ModelError(
            f"training.compile compiles a model's layers, and {type(model).__name__} does not say which of its "
            "modules are layers (_no_split_modules). Set training.compile: false."
        )
    for layer in layers:
        layer.compile(dynamic=True)


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on a kind of device, as `training.precision` names it; nothing for float32."""
    return torch.autocast(device, getattr(torch, precision)) if precision != "float32" else nullcontext()


def unwrapped(model: torch.nn.Module) -> Any:
    """The model inside what it was wrapped in for distribution."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model


HASHED = ("*.safetensors", "*.bin", "config.json", "tokenizer*", "*.model", "vocab*", "merges.txt")
ADAPTER = "adapter_config.json"  # in the folder of an adapter that was kept apart from its base


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use, with what its texts need.

    Attributes:
        model: the network, in evaluation mode.
        tokenizer: its tokenizer, with a padding token.
        codec: how prompts and answers become tokens.
        encoder_decoder: whether it has an encoder and a decoder.
        name: the folder or Hub name it came from.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: Codec
    encoder_decoder: bool
    name: str


def load_model(
    base: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    chat: str = "auto",
    system_prompt: str | None = None,
    quantised: bool = False,
) -> LoadedModel:
    """Loads a model and its tokenizer from a folder, the Hub, or the toy family (`toy`).

    Args:
        base: a folder in Hugging Face format, a Hub name, or `toy` for the shipped toy base.
        revision: branch, tag or commit on the Hub.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for the one it was saved in.
        trust_remote_code: whether code that comes with the model may run.
        chat: `auto` wraps prompts in the tokenizer's chat template where it has one; `never` does not.
        system_prompt: the system's turn for chat templates.
        quantised: keeps linear layers in 4 bits (NF4 with double quantisation; Dettmers et al. 2023, QLoRA).

    Raises:
        ModelError: the model or its tokenizer cannot be loaded; the message says what is missing.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    codec = make_codec(base, chat=chat, system_prompt=system_prompt, **options)
    factory: Any = AutoModelForSeq2SeqLM if codec.encoder_decoder else AutoModelForCausalLM
    place = resolve_model(base)
    if quantised:
        options["quantization_config"] = _four_bits(dtype)
    with quiet_loading():
        try:
            model = factory.from_pretrained(
                place, dtype=dtype if dtype == "auto" else getattr(torch, dtype), **options
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(_unloadable(base, place, error)) from None
    model.eval()
    if quantised:
        _keep_differentiable(model)
    return LoadedModel(model, codec.tokenizer, codec, codec.encoder_decoder, base)


def _four_bits(dtype: str) -> Any:
    """How QLoRA keeps the base.

    Raises:
        ModelError: the library that does it is not installed.
    """
    from importlib.util import find_spec

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


def _keep_differentiable(model: torch.nn.Module) -> None:
    """Keeps 4-bit layers from packing their weights anew on a processor when they first run without a gradient.

    bitsandbytes 0.50 does so for good, and its routine for packed weights has no backward pass: gradients would be
    missing from then on.
    """
    for module in model.modules():
        layer: Any = module
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def make_codec(base: str, *, chat: str = "auto", system_prompt: str | None = None, **options: Any) -> Codec:
    """How a model wants its texts, without loading its weights.

    Raises:
        ModelError: the model's configuration or tokenizer cannot be loaded.
    """
    config = load_model_config(base, **options)
    tokenizer = load_tokenizer(base, **options)
    use_chat = chat == "auto" and bool(tokenizer.chat_template)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    context = _context(config, tokenizer)
    return Codec(tokenizer, encoder_decoder, chat=use_chat, system_prompt=system_prompt, context=context)


def load_model_config(base: str, **options: Any) -> Any:
    """A model's configuration, without its weights; that of the model beneath, where it is an adapter.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoConfig

    place = resolve_model(base)
    try:
        return AutoConfig.from_pretrained(_base_of(place) or place, **options)
    except (OSError, ValueError) as error:
        raise ModelError(_unloadable(base, place, error)) from None


def load_codec(config: ModelConfig) -> Codec:
    """`make_codec` with the options of a configuration."""
    return make_codec(
        config.base,
        chat=config.chat,
        system_prompt=config.system_prompt,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )


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


def load_configured(config: ModelConfig, base: str | None = None, *, quantised: bool = False) -> LoadedModel:
    """`load_model` with the options of a configuration; `base` takes the place of the configured one."""
    return load_model(
        base or config.base,
        revision=config.revision if base is None else None,
        dtype=config.dtype,
        trust_remote_code=config.trust_remote_code,
        chat=config.chat,
        system_prompt=config.system_prompt,
        quantised=quantised,
    )


def load_tokenizer(base: str, **options: Any) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer and sees to it that it has a padding token.

    Raises:
        ModelError: there is none, or it has no token that padding could use.
    """
    from transformers import AutoTokenizer

    place = resolve_model(base)
    folder = Path(place)
    if folder.is_dir() and not any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
    ):
        raise ModelError(
            f"{base} holds a model but no tokenizer (found: {_listing(folder)}). Save it there with "
            "tokenizer.save_pretrained(folder)."
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer of {base} cannot be loaded: {_first_line(error)}") from None
    # Lengths are our business: texts are cut and counted (`encode.fit`), so no warning is due before that.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if tokenizer.pad_token_id is None:
        substitute = tokenizer.eos_token or tokenizer.unk_token
        if substitute is None:
            raise ModelError(f"the tokenizer of {base} has no padding, end or unknown token; add a pad_token.")
        tokenizer.pad_token = substitute
    return tokenizer


def resolve_model(base: str) -> str:
    """The folder or Hub name behind a configured base.

    Raises:
        ModelError: it is written as a path and no such folder exists, or the folder has no model.
    """
    if base == "toy":
        return str(toy_base())
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists() and _base_of(base) is None:
            raise ModelError(f"{base} is no model folder: it has no config.json but {_listing(folder)}.")
        return str(folder)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise ModelError(f"the model folder {base} does not exist.")
    return base


def _base_of(place: str) -> str | None:
    """The model that the adapter in a folder belongs to; None where the folder holds no adapter."""
    path = Path(place).expanduser() / ADAPTER
    if not path.is_file():
        return None
    base: str | None = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if base is None:
        raise ModelError(f"{path} does not say what model the adapter belongs to (base_model_name_or_path).")
    return base


def model_hash(base: str, revision: str | None = None) -> str:
    """A short hash of a model's weights, configuration and tokenizer (for a Hub name: of its commit).

    Raises:
        ModelError: there is neither such a folder nor such a name on the Hub.
    """
    place = resolve_model(base)
    folder = Path(place)
    if folder.is_dir():
        files = sorted({path for pattern in HASHED for path in folder.glob(pattern)})
        hashes = [(path.name, file_hash(path)) for path in files]
        beneath = _base_of(place)
        return text_hash([*hashes, model_hash(beneath)] if beneath else hashes)[:12]
    config = load_model_config(base, revision=revision)
    return str(getattr(config, "_commit_hash", None) or revision or place)[:12]


def context_length(loaded: LoadedModel) -> int | None:
    """How many tokens a model takes at most; None where neither it nor its tokenizer sets a limit."""
    return _context(loaded.model.config, loaded.tokenizer)


def _context(config: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    limit = tokenizer.model_max_length
    return int(limit) if limit and limit < 1_000_000 else None


def _unloadable(base: str, place: str, error: Exception) -> str:
    if Path(place).is_dir():
        return f"the model in {base} cannot be loaded: {_first_line(error)}"
    return (
        f"the model {base!r} was neither found as a folder nor on the Hub: {_first_line(error).rstrip('.')}. "
        "Give an existing folder, or check the name, the network and, for gated models, your access token."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
