"""Writing with vLLM in place of transformers. Untested on a GPU: tests check the calls against a stand-in."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from instructalign.config import ModelConfig
from instructalign.errors import DataError, ModelError
from instructalign.evaluation.generation import answer_of, ends_of
from instructalign.training.models import make_codec, resolve_model


def make_vllm(model: ModelConfig, base: str) -> Callable[..., list[tuple[str, bool]]]:
    """A function that writes behind prompts as `decode.generate` does, greedily, with vLLM.

    Args:
        model: says how the model is loaded.
        base: the model folder or Hub name.

    Raises:
        ModelError: vLLM is not installed, or the model has an encoder and a decoder.
    """
    try:
        from vllm import LLM, SamplingParams
    except ImportError:
        raise ModelError(
            "evaluation.engine is vllm, but vLLM is not installed: pip install 'instructalign[vllm]', or set "
            "evaluation.engine to transformers."
        ) from None
    revision = model.revision if base == model.base else None
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": model.trust_remote_code}
    codec = make_codec(base, chat=model.chat, system_prompt=model.system_prompt, **options)
    if codec.encoder_decoder:
        raise ModelError(
            f"vLLM does not run {base}, an encoder-decoder model; set evaluation.engine to transformers."
        )
    ends, penalty = ends_of(codec.tokenizer, _generation_config(base, options))
    _free_memory()
    llm = LLM(model=resolve_model(base), dtype=model.dtype, **options)
    context = getattr(getattr(llm, "model_config", None), "max_model_len", None)

    def write(
        prompts: Sequence[str], tokens: int, progress: Callable[[int, int], None] | None = None
    ) -> list[tuple[str, bool]]:
        encoded = [codec.pair(prompt, "")[0] for prompt in prompts]
        rooms = [tokens if context is None else min(tokens, context - len(ids)) for ids in encoded]
        for prompt, ids, room in zip(prompts, encoded, rooms, strict=True):
            if room < 1:
                raise DataError(
                    f"a prompt of {len(ids)} tokens leaves no room in the model's context of {context}: "
                    f"{prompt[:60]}…"
                )
        settings = [
            SamplingParams(
                temperature=0.0,
                max_tokens=room,
                stop_token_ids=sorted(ends),
                repetition_penalty=penalty,
                detokenize=False,
            )
            for room in rooms
        ]
        outputs = llm.generate([{"prompt_token_ids": ids} for ids in encoded], settings, use_tqdm=False)
        if progress:
            progress(len(prompts), len(prompts))
        return [_answer(codec.tokenizer, output.outputs[0], ends) for output in outputs]

    return write


def _answer(tokenizer: Any, output: Any, ends: set[int]) -> tuple[str, bool]:
    text, endless = answer_of(tokenizer, list(output.token_ids), ends)
    return text, endless and output.finish_reason == "length"


def _generation_config(base: str, options: dict[str, Any]) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(resolve_model(base), **options)
    except OSError:
        return None


def _free_memory() -> None:
    """Gives back what a model that is no longer used held on the GPU, before vLLM takes its share."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def vllm_version() -> str:
    """vLLM and its version, for signatures."""
    try:
        return f"vllm {version('vllm')}"
    except PackageNotFoundError:
        return "vllm"
