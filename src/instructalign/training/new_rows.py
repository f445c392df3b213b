"""The embedding rows of new pieces: what they begin with, the extended base, and training them before all else.

A row begins as a weighted mean of old rows, with the same weights for the input and the output embedding:

- `mean`: of the old tokens that stood for the piece (Hewitt 2021 on why a mean spares the other probabilities).
- `align`: of the tokens of the known-language words that the piece is aligned with, by
  `instructions.word_alignment`.
- `omp`: of few old tokens that occur in the same parallel rows as the piece, by orthogonal matching pursuit
  (Pati et al. 1993). Goddard and Fernandes Neto 2025 (arXiv 2506.06607) match in the embeddings of another model
  that has both tokens; here no other model is needed, since sentences and their translations share their rows.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from instructalign.config import Config, ModelConfig, VocabularyConfig
from instructalign.files import text_hash, write_json
from instructalign.instructions.word_alignment import train_aligner
from instructalign.mixture.training_data import TrainingData
from instructalign.progress import Progress
from instructalign.training.adapters import without_tying
from instructalign.training.checkpoints import CheckpointIdentity
from instructalign.training.models import LoadedModel, load_model, quiet_loading
from instructalign.training.strategies.strategy import Strategy
from instructalign.training.vocabulary import Extension, extend_tokenizer

Weights = dict[int, float]
"""Of old tokens, in a new row; they sum to 1."""

EXTENDED = "extended"
"""The folder inside a run's with the extended base, to which its checkpoints and a kept adapter belong."""

_RECORD = "vocabulary.json"
_ROWS = 20_000  # parallel rows that are matched
_DIRECTIONS = 512  # of the random space that stands for the rows
_MATCHES = 8  # old tokens in a matched row


def extend_base(
    config: Config,
    settings: VocabularyConfig,
    out: Path,
    data: TrainingData,
    identity: CheckpointIdentity,
    progress: Progress,
) -> tuple[ModelConfig, dict[str, Any]]:
    """The base with new pieces, as a folder inside the run's that transformers loads; made once.

    Returns:
        The configuration of the extended base, and the record of what was done, with the ids of the new rows.

    Raises:
        ModelError, TrainingError: as `extend_tokenizer`.
    """
    folder = out.resolve() / EXTENDED
    # All that the pieces and their rows depend on: nothing of the training, so that a prolonged run finds its own.
    of_model = config.model.model_dump(mode="json", exclude={"base", "revision", "adapter"})
    key = text_hash([identity.model, identity.data, of_model, config.seed])
    with PartialState().main_process_first():
        record = _record(folder)
        if record.get("key") != key:
            progress("extending the vocabulary", 0, 0, config.model.base)
            loaded = load_model(config.model, trainable=True)
            extension = extend_tokenizer(
                loaded.tokenizer, config, data.corpus, data.heldout, data.replay, data.taught
            )
            rows, begun = extend_rows(loaded, extension, settings, config, data)
            ids = [extension.first, extension.first + len(extension.parts)]
            record = {**extension.record, "begun": begun, "rows": rows, "ids": ids}
            partial = folder.with_name(f".{EXTENDED}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            with quiet_loading():
                loaded.model.save_pretrained(partial)
            extension.tokenizer.save_pretrained(partial)
            write_json(partial / _RECORD, {"key": key, **record})
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    record.pop("key", None)
    return config.model.model_copy(update={"base": str(folder), "revision": None}), record


def _record(folder: Path) -> dict[str, Any]:
    path = folder / _RECORD
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def extend_rows(
    loaded: LoadedModel, extension: Extension, settings: VocabularyConfig, config: Config, data: TrainingData
) -> tuple[dict[str, int], dict[str, int]]:
    """Gives a model rows for new pieces, in place; rows that pad the embeddings to their multiple are the mean.

    Returns:
        The embeddings' rows before and after, and how many pieces began in which way.
    """
    weights: list[Weights] = [{} for _ in extension.parts]
    if settings.init != "mean":
        find = {"align": _aligned, "omp": _matched}[settings.init]
        weights = find(loaded.tokenizer, extension, config, data)
    begun: Counter[str] = Counter(settings.init if each else "mean" for each in weights)
    for number, parts in enumerate(extension.parts):
        weights[number] = weights[number] or {token: count / len(parts) for token, count in Counter(parts).items()}
    model: Any = loaded.model
    before, needed = make_room(model, extension.ids.stop)
    ends = {id(end.weight): end for end in _ends(model)}
    with torch.no_grad():
        for end in ends.values():
            for values in (end.weight, getattr(end, "bias", None)):
                if values is None:
                    continue
                learned = min(extension.first, before)  # some tokenizers have a token more than their model rows
                values[learned:] = values[:learned].float().mean(0).to(values.dtype)
                old = values[: extension.first].float()
                for row, each in zip(extension.ids, weights, strict=True):
                    shares = torch.tensor(list(each.values()), device=old.device)
                    some = old[list(each)]
                    values[row] = (shares.reshape(-1, *[1] * (some.dim() - 1)) * some).sum(0).to(values.dtype)
    return {"before": before, "after": needed}, dict(begun)


def make_room(model: Any, tokens: int) -> tuple[int, int]:
    """Gives a model rows for a number of tokens, keeping their multiple (up to 128): the rows before and after."""
    ends = _ends(model)
    before = int(ends[0].weight.shape[0])
    multiple = next(size for size in (128, 64, 32, 16, 8, 4, 2, 1) if before % size == 0)
    after = max(before, -(-tokens // multiple) * multiple)
    # Where a configuration calls weights tied that are not (mT5's), resizing would tie them.
    with without_tying(model.config) if len({id(end.weight) for end in ends}) > 1 else nullcontext():
        model.resize_token_embeddings(after, mean_resizing=False)
    return before, after


def _ends(model: Any) -> list[Any]:
    """The input and the output embedding of a model that has both."""
    return [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]


def _pieces_of(extension: Extension, texts: Sequence[str]) -> list[list[int]]:
    """By text, the places of the new pieces in it."""
    encode: Any = extension.tokenizer
    found = encode(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return [[token - extension.first for token in ids if token in extension.ids] for ids in found]


def _aligned(tokenizer: Any, extension: Extension, config: Config, data: TrainingData) -> list[Weights]:
    """By new piece, the old tokens of the known-language words that it is aligned with."""
    totals: list[defaultdict[int, float]] = [defaultdict(float) for _ in extension.parts]
    encode_new: Any = partial(extension.tokenizer.encode, add_special_tokens=False)
    for new in config.languages.new:
        for known in config.languages.known:
            rows = (row.texts for row in data.corpus if new in row.texts and known in row.texts)
            # The new language's words are its tokens, each by its number: also where no spaces part its words.
            numbers = ((" ".join(f"t{token}" for token in encode_new(f" {row[new]}")), row[known]) for row in rows)
            table = train_aligner(numbers).table
            spelled = {
                word: tokenizer.encode(f" {word}", add_special_tokens=False)
                for word in {word for row in table.values() for word in row}
            }
            for total, token in zip(totals, extension.ids, strict=True):
                for word, probability in table.get(f"t{token}", {}).items():
                    for each in spelled[word]:
                        total[each] += probability / len(spelled[word])
    return [_normalised(each) for each in totals]


def _normalised(weights: Mapping[int, float]) -> Weights:
    """Weights that sum to 1; none where they cancel out."""
    total = sum(weights.values())
    return {token: value / total for token, value in weights.items()} if total > 1e-6 else {}


def _matched(tokenizer: Any, extension: Extension, config: Config, data: TrainingData) -> list[Weights]:
    """By new piece, the old tokens whose occurrences in the parallel rows add up to its own."""
    rows = [row.texts for row, _ in zip(data.corpus, range(_ROWS), strict=False)]
    space = np.random.default_rng(config.seed).standard_normal((len(rows), _DIRECTIONS)).astype(np.float32)
    space -= space.mean(0)  # so that what occurs in every row matches nothing

    def directions(occurrences: Mapping[int, set[int]], order: Sequence[int]) -> Any:
        """Unit vectors [order, directions] whose products are the correlations of the occurrences."""
        sums = np.stack([space[sorted(occurrences[each])].sum(0) for each in order])
        return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)

    old: defaultdict[int, set[int]] = defaultdict(set)
    new: defaultdict[int, set[int]] = defaultdict(set)
    for code in config.languages.known:
        texts = {number: f" {row[code]}" for number, row in enumerate(rows) if code in row}
        encoded = tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"] if texts else []
        for number, ids in zip(texts, encoded, strict=True):
            for token in ids:
                old[token].add(number)
    for code in config.languages.new:
        texts = {number: f" {row[code]}" for number, row in enumerate(rows) if code in row and len(row) > 1}
        for number, places in zip(texts, _pieces_of(extension, list(texts.values())), strict=True):
            for place in places:
                new[place].add(number)
    result: list[Weights] = [{} for _ in extension.parts]
    if not old or not new:
        return result
    tokens, pieces = sorted(old), sorted(new)
    anchors, targets = directions(old, tokens), directions(new, pieces)
    residual, chosen = targets.copy(), [list[int]() for _ in pieces]
    for _ in range(min(_MATCHES, len(tokens))):
        correlations = residual @ anchors.T
        for number, some in enumerate(chosen):
            correlations[number, some] = -np.inf
            some.append(int(correlations[number].argmax()))
            basis = anchors[some]
            coefficients = np.linalg.lstsq(basis.T, targets[number], rcond=None)[0]
            residual[number] = targets[number] - coefficients @ basis
            shares = np.maximum(coefficients, 0).tolist()
            result[pieces[number]] = _normalised(
                {tokens[each]: share for each, share in zip(some, shares, strict=True) if share > 0}
            )
    return result


class NewRowsFirst(Strategy):
    """Trains the rows of new pieces alone for some steps, then all (`model.vocabulary.train_new_rows_first`).

    Other weights have no gradient then, so that the optimizer leaves them and its moments alone; gradients are
    clipped with all of them before. Old rows have one of 0, and are restored where weight decay changes them.

    Args:
        steps: how many.
        rows: the embeddings' rows.
        ids: the new ones.
        tokens: those that an adapter trains, where it trains single rows.
        decayed: whether there is weight decay.
    """

    needs_full_weights = True

    def __init__(self, steps: int, rows: int, ids: range, tokens: Sequence[int] | None, decayed: bool) -> None:
        self._steps, self._rows, self._decayed = steps, rows, decayed
        self._old = torch.tensor([row not in ids for row in range(rows)])
        self._old_tokens = torch.tensor([token not in ids for token in tokens or ()])
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []  # weight, old rows, their values

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        """Takes the gradients of everything else away."""
        if step >= self._steps:
            return
        for name, weight in model.named_parameters():
            if weight.grad is None:
                continue
            if "trainable_tokens_delta" in name:
                old = self._old_tokens.to(weight.device)
            elif weight.shape[0] == self._rows:
                old = self._old.to(weight.device)
            else:
                weight.grad = None
                continue
            weight.grad[old] = 0
            if self._decayed:
                self._kept.append((weight.data, old, weight.data[old]))

    def undo_update(self, model: torch.nn.Module, step: int) -> None:
        """Restores the old rows after weight decay."""
        for weight, old, values in self._kept:
            weight[old] = values
        self._kept.clear()
