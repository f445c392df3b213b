"""The memory of a training step, estimated from the model's build.

* The weights' side: weights, one gradient for each trained one, and Adam's two moments, all in the weights' type
  (`torch.optim.AdamW`; Rajbhandari et al. 2020, "ZeRO", section 3.1, counts the same). Autocast keeps copies of
  the weights in its own type while a step runs.
* Activations: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models" (arXiv
  2205.05198), section 4.1, without dropout: for each token and layer, 8 values as wide as the model and 2 as wide
  as its inner layer (4 where that is gated, as in LLaMA; 3 more where its GELU is computed in steps, as in mT5),
  and, where no fused kernel does the attention, 2 for each head and token that it looks at. A decoder's look at
  the encoder takes 4 values more a token, and keys and values of the encoder's tokens. With
  `gradient_checkpointing` one value a layer, and one whole layer.
* The logits where the loss counts, or as many as are computed at a time (`training.loss`), their exponentials and
  gradients, in float32.

What libraries, fragments and the system take comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructalign.config import Config
from instructalign.doctor.check_lengths import Sampled, percentile
from instructalign.training.loss import CHUNK_LOGITS
from instructalign.training.preflight import optimizer_bytes
from instructalign.training.tokenization import loss_tokens
from instructalign.training.train import micro_batch_limits

_AUTOCAST = {"float32": 0, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model's build decides the size of its activations.

    Attributes:
        layers, decoder_layers: of the encoder (or of a model that has none apart), and of the decoder.
        width: of the hidden state.
        inner: values that a token keeps in a layer's inner part.
        heads: heads whose matrix of attention is kept; 0 where a fused kernel does without.
        vocabulary: tokens in it.
    """

    layers: int
    decoder_layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int

    def activations(self, first: int, second: int, checkpointing: bool) -> int:
        """Values that one example keeps.

        Args:
            first: tokens in the encoder, or in a model that has none apart.
            second: tokens in the decoder; 0 without one.
            checkpointing: whether layers are computed again in the backward pass.
        """
        one = first * self._per_token(first)
        other = second * (self._per_token(second) + 4 * self.width) + 2 * first * self.width if second else 0
        if checkpointing:
            return (self.layers * first + self.decoder_layers * second) * self.width + max(one, other)
        return self.layers * one + self.decoder_layers * other

    def _per_token(self, seen: int) -> int:
        return 8 * self.width + self.inner + 2 * self.heads * seen


def shape_of(model: Any, encoder_decoder: bool) -> Shape:
    """The shape of a model, from its configuration and the names of its layers."""
    settings = model.config
    width = int(settings.hidden_size)
    inner = int(getattr(settings, "intermediate_size", None) or getattr(settings, "d_ff", None) or 4 * width)
    gated = any(name.endswith(("gate_proj", "wi_1")) for name, _ in model.named_modules())
    stepwise = getattr(settings, "dense_act_fn", getattr(settings, "hidden_act", None)) == "gelu_new"
    layers = int(settings.num_hidden_layers)
    fused = getattr(settings, "_attn_implementation", None) != "eager"
    return Shape(
        layers=layers,
        decoder_layers=int(getattr(settings, "num_decoder_layers", None) or layers) if encoder_decoder else 0,
        width=width,
        inner=((4 if gated else 2) + (3 if stepwise else 0)) * inner,
        heads=0 if fused else int(settings.num_attention_heads),
        vocabulary=int(settings.vocab_size),
    )


def estimate_memory(
    config: Config,
    shape: Shape,
    total: int,
    trained: int,
    width: int,
    taken: Sequence[Sampled],
    encoder_decoder: bool,
    embedded: int = 0,
) -> dict[str, int]:
    """Bytes that a step holds at its peak, by what they are.

    Args:
        config: the run's configuration.
        shape: the model's.
        total, trained: weights in all, those of an adapter included, and those that are trained.
        width: bytes of one weight.
        taken: examples; a micro-batch is taken to be as long as the longest of a hundred of them.
        encoder_decoder: whether prompt and answer go to different stacks.
        embedded: how many of the trained weights are embeddings.
    """

    def most(length: Callable[[Sampled], int]) -> int:
        return percentile([length(each) for each in taken], 0.99) if taken else config.training.max_length

    cast = _AUTOCAST[config.training.precision] if width == 4 else 0
    on_prompt = config.training.loss_on == "all"
    counted = most(lambda e: loss_tokens(e.kept_prompt, e.kept_answer, on_prompt, encoder_decoder))
    first = most(lambda each: each.kept_prompt + (0 if encoder_decoder else each.kept_answer))
    second = most(lambda each: each.kept_answer) if encoder_decoder else 0
    values = shape.activations(first, second, config.training.gradient_checkpointing)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = min(config.training.batch_size, micro_batch_limits(config.training, device).rows_of(first + second))
    logits = 3 * 4 * min(rows * counted * shape.vocabulary, CHUNK_LOGITS[device])
    return {
        "weights": total * (width + cast),
        "gradients": trained * width,
        "optimizer": optimizer_bytes(config.training.optimizer, trained, embedded, width),
        "activations": rows * values * (cast or width) + logits,
    }
