"""Files translated by a model, with a confidence for each sentence, and the least certain first for a reviewer.

The confidence is the length-normalised likelihood of the greedy translation, the geometric mean of its tokens'
probabilities. Where the run holds sentences out, it is calibrated on them: it then says what share of equally
likely translations reached chrF++ 50 (Popović 2017).
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, exp
from pathlib import Path
from typing import Any

import numpy as np

from instructalign.config import Config
from instructalign.errors import ConfigError, DataError, InstructAlignError, RunFolderError
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.task_selection import TranslationDirection, plan_heldout
from instructalign.evaluation.tasks import HeldOutTask, load_task
from instructalign.files import atomic, text_hash
from instructalign.instructions.segmentation import split_sentences
from instructalign.interact.document_files import Segment, open_document
from instructalign.interact.model_choice import ChosenModel, choose_model, load_for_use, translation_prompt
from instructalign.languages import canonical, english_name
from instructalign.notebooks import default_progress
from instructalign.progress import Progress
from instructalign.run_folder import read_run_metadata, update_run_metadata
from instructalign.synthesis.back_translation import placeholder_problems
from instructalign.training.generation import LINE_END, TokenChooser, decode_until, generate_batch, plan_generation
from instructalign.training.models import LoadedModel, model_hash

log = logging.getLogger(__name__)

GOOD_CHRF = 50.0
"""The chrF++ from which a translation counts as good for the calibration."""

_FEWEST_PAIRS = 20  # held-out pairs that a calibration needs
_BIN = 10  # pairs in a bin of it, at least
_STRETCH, _MARGIN, _MOST = 4.0, 16, 512  # the longest translation, in tokens of the source, and beyond them
_BATCH_TOKENS = 4096
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]+")


@dataclass(frozen=True, slots=True)
class TranslatedSentence:
    """A sentence and its translation.

    Attributes:
        source, translation: the texts.
        likelihood: the geometric mean of the probabilities of the translation's tokens.
        confidence: the share of equally likely held-out translations that were good; None without calibration.
        problems: what a person must look at, a sentence each.
    """

    source: str
    translation: str
    likelihood: float
    confidence: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a likelihood of a translation is worth, from held-out pairs.

    Attributes:
        pairs: how many pairs it was fitted on.
        good: the share of them that reached `GOOD_CHRF`.
        error: the expected calibration error: the mean difference between the confidence and the share that was
            good, each half of the pairs judged by what the other half says.
        likelihoods, shares: the points of the curve, rising.
    """

    pairs: int
    good: float
    error: float
    likelihoods: list[float]
    shares: list[float]

    def confidence(self, likelihood: float) -> float:
        """The share of equally likely translations that were good."""
        return float(np.interp(likelihood, self.likelihoods, self.shares))


@dataclass(frozen=True, slots=True)
class TranslatedFile:
    """What became of a file.

    Attributes:
        out, review: the translated file, and the table for the reviewer.
        sentences: its sentences, each once, in the file's order.
        calibration: None where there was nothing to calibrate on; `uncalibrated` says why.
        kept: what was left as it was, in words.
    """

    out: Path
    review: Path
    sentences: list[TranslatedSentence]
    calibration: Calibration | None
    uncalibrated: str = ""
    kept: list[str] = field(default_factory=list)


def translate(
    texts: str | Sequence[str],
    model: str | Path,
    source: str,
    target: str,
    *,
    calibrate: bool = True,
    progress: Progress | None = None,
) -> list[TranslatedSentence]:
    """Translates sentences: `translate(["Good morning."], "runs/mine", "eng", "jav")[0].translation`.

    Args:
        texts: sentences, each translated as a whole.
        model: a run, a model folder, or a name on the Hub.
        source, target: the languages, as codes or names.
        calibrate: whether confidences are calibrated on the run's held-out pairs, where there are some.
        progress: reports sentences done; by default in a notebook's cell, where there is one.

    Raises:
        ConfigError: the languages are the same.
        ModelError: the model cannot be loaded.
    """
    progress = progress or default_progress()
    chosen, source, target = _chosen(model, source, target)
    translator = _Translator(chosen, source, target)
    sentences = [texts] if isinstance(texts, str) else list(texts)
    made = translator.run(sentences, None, progress)
    calibration = translator.calibrate(progress)[0] if calibrate else None
    return [_judged(text, *each, calibration) for text, each in zip(sentences, made, strict=True)]


def translate_file(
    path: str | Path,
    model: str | Path,
    source: str,
    target: str,
    out: str | Path | None = None,
    *,
    column: str | None = None,
    sheet: str | None = None,
    fresh: bool = False,
    calibrate: bool = True,
    progress: Progress | None = None,
) -> TranslatedFile:
    """Translates a file into one of the same format; interrupted, the same call goes on where it was.

    Args:
        path: the file; see `document_files.open_document` for the kinds, `column` and `sheet`.
        model, source, target, calibrate, progress: as in `translate`.
        out: the file to write; by default beside `path`, named with the target language. What is done so far is
            in a hidden file beside it, and the table for the reviewer in one that ends in `.review.csv`.
        fresh: forget what was done so far, and replace `out`.

    Raises:
        ConfigError: the languages are the same.
        DataError: the file cannot be read, or has nothing to translate.
        ModelError: the model cannot be loaded.
        RunFolderError: `out` is there already.
    """
    path, progress = Path(path), progress or default_progress()
    chosen, source, target = _chosen(model, source, target)
    out = Path(out) if out else path.with_name(f"{path.stem}.{target}{path.suffix}")
    if out.suffix.lower() != path.suffix.lower():
        raise ConfigError(
            [f"--out: {out} must end in {path.suffix}: the format stays what it is"], "the arguments of translate"
        )
    if out.exists() and (not fresh or out.samefile(path)):
        advice = (
            "Choose another --out." if out.samefile(path) else "Choose another --out, or --fresh to replace it."
        )
        raise RunFolderError(f"{out} is there already. {advice}")
    document = open_document(path, source, target, column, sheet)
    if not document.segments:
        left = f" ({', '.join(document.kept)})" if document.kept else ""
        raise DataError(f"{path} has nothing to translate{left}.")
    parts = [split_sentences(segment.text) for segment in document.segments]
    sentences = list(dict.fromkeys(each for some in parts for each in some[::2]))
    translator = _Translator(chosen, source, target)
    out.parent.mkdir(parents=True, exist_ok=True)
    key = text_hash([model_hash(chosen.model.base), translator.ask(""), sentences])
    runner = BatchRunner(out.parent, out.name, key, "translating", progress)
    if fresh:
        runner.close()
    made = translator.run(sentences, runner, progress)
    calibration, why = translator.calibrate(progress) if calibrate else (None, "")
    judged = {text: _judged(text, *each, calibration) for text, each in zip(sentences, made, strict=True)}
    texts = ["".join(judged[s].translation if n % 2 == 0 else s for n, s in enumerate(some)) for some in parts]
    doubtful = [any(judged[s].problems for s in some[::2]) for some in parts]
    with atomic(out) as file:
        file.write(document.render(texts, doubtful))
    review = out.with_name(f"{out.name}.review.csv")
    _write_review(review, document.segments, parts, judged)
    runner.close()
    return TranslatedFile(out, review, list(judged.values()), calibration, why, document.kept)


def _chosen(model: str | Path, source: str, target: str) -> tuple[ChosenModel, str, str]:
    source, target = canonical(source), canonical(target)
    if source == target:
        raise ConfigError([f"--from and --to are both {english_name(source)}"], "the arguments of translate")
    chosen = choose_model(str(model))
    if chosen.config:
        taught = [*chosen.config.languages.known, *chosen.config.languages.new, *chosen.config.languages.related]
        for code in (source, target):
            if code not in taught:
                log.warning("%s was not among the languages of the run: %s", code, ", ".join(taught))
    return chosen, source, target


def _judged(
    text: str, translation: str, unfinished: bool, likelihood: float, calibration: Calibration | None
) -> TranslatedSentence:
    translation = _CONTROLS.sub(" ", translation).strip()  # no cell, tab-separated line or XML can hold them
    problems = [*(["cut off"] if unfinished else []), *placeholder_problems(text, translation)]
    problems += ["no translation"] if not translation else ["a copy"] if translation == text else []
    confidence = calibration.confidence(likelihood) if calibration else None
    return TranslatedSentence(text, translation or text, likelihood, confidence, tuple(problems))


class _Translator:
    """A model that translates in one direction; it is loaded when it is needed."""

    def __init__(self, chosen: ChosenModel, source: str, target: str) -> None:
        self._chosen, self._source, self._target = chosen, source, target
        self.ask = translation_prompt(chosen.config, source, target)
        self._model: LoadedModel | None = None

    def run(
        self, texts: Sequence[str], runner: BatchRunner | None, progress: Progress
    ) -> list[tuple[str, bool, float]]:
        """By text its translation, whether it is unfinished, and its likelihood; of one without room, nothing."""
        loaded = self._model = self._model or load_for_use(self._chosen.model)
        prompts = [loaded.codec.pair(self.ask(" ".join(text.split())), "")[0] for text in texts]
        lengths = [len(loaded.tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        limits = [min(_MOST, ceil(_STRETCH * length) + _MARGIN) for length in lengths]
        room = loaded.codec.context if not loaded.encoder_decoder else None
        fits = [n for n, prompt in enumerate(prompts) if room is None or len(prompt) + lengths[n] < room]
        some, most = [prompts[n] for n in fits], [limits[n] for n in fits]

        def write(batch: list[int]) -> list[tuple[str, bool, float]]:
            made = generate_batch(
                loaded,
                [some[n] for n in batch],
                [most[n] for n in batch],
                chooser=TokenChooser(None, [0] * len(batch)),
                stops=LINE_END,
            )
            return [(*decode_until(loaded.tokenizer, each), exp(each.likelihood)) for each in made]

        batches = plan_generation(loaded, some, most, _BATCH_TOKENS)
        results: list[Any] = [("", True, 0.0)] * len(texts)
        if runner:
            for place, result in zip(fits, runner.run(batches, write), strict=True):
                results[place] = result
            return results
        for number, batch in enumerate(batches):
            for place, result in zip(batch, write(batch), strict=True):
                results[fits[place]] = result
            progress("translating", number + 1, len(batches), "batches")
        return results

    def calibrate(self, progress: Progress) -> tuple[Calibration | None, str]:
        """The calibration on the run's held-out pairs, kept in its folder; or why there is none."""
        config, run = self._chosen.config, self._chosen.run
        if config is None or run is None:
            return None, "the model is no run's, so that there are no held-out pairs"
        name, model = f"{self._source}-{self._target}", model_hash(self._chosen.model.base)
        kept = read_run_metadata(run).get("translation_confidence", {}).get(name, {})
        if kept.pop("model", None) == model:
            return Calibration(**kept), ""
        try:
            pairs = _heldout_pairs(config, self._source, self._target)
        except InstructAlignError as error:
            return None, str(error)
        if pairs is None or len(pairs.texts) < _FEWEST_PAIRS:
            count = len(pairs.texts) if pairs else 0
            return None, f"{count} pairs of {name} are held out, and {_FEWEST_PAIRS} are needed"
        progress("translating held-out pairs", 0, 0, "")
        made = self.run(pairs.texts, None, progress)
        calibration = fit_calibration([each[2] for each in made], _good(made, pairs.references))
        try:
            update_run_metadata(run, translation_confidence={name: {**asdict(calibration), "model": model}})
        except OSError as error:  # somebody else's run: it is calibrated anew each time
            log.warning("the calibration is not kept: %s", error)
        return calibration, ""


def _heldout_pairs(config: Config, source: str, target: str) -> TranslationDirection | None:
    task = load_task("heldout_translation")
    if not isinstance(task, HeldOutTask):
        raise TypeError("heldout_translation is no task of held-out sentences")
    # all that the run holds out, also where its evaluation was cut short to a few items
    evaluation = config.evaluation.model_copy(update={"items": None})
    plans = plan_heldout(config.model_copy(update={"evaluation": evaluation}), task)
    found = (each for each in plans if isinstance(each, TranslationDirection))
    return next((each for each in found if (each.source, each.target) == (source, target)), None)


def _good(made: Sequence[tuple[str, bool, float]], references: Sequence[str]) -> list[bool]:
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF(word_order=2)
    texts = zip(made, references, strict=True)
    return [metric.sentence_score(each[0], [reference]).score >= GOOD_CHRF for each, reference in texts]


def fit_calibration(likelihoods: Sequence[float], good: Sequence[bool]) -> Calibration:
    """The share of good translations as a function of their likelihood that never falls.

    Isotonic regression (Barlow et al. 1972) over bins of at least ten pairs; its error is measured on the other
    half of the pairs.

    Args:
        likelihoods: of each held-out translation.
        good: whether it reached `GOOD_CHRF`.
    """
    values, hits = np.asarray(likelihoods, float), np.asarray(good, float)
    errors = []
    for half in (0, 1):
        fitted, judged = np.arange(len(values)) % 2 == half, np.arange(len(values)) % 2 != half
        said = np.interp(values[judged], *_curve(values[fitted], hits[fitted]))
        order = np.argsort(said, kind="stable")
        bins = np.array_split(order, max(1, len(order) // _BIN))
        errors.append(sum(len(b) * abs(said[b].mean() - hits[judged][b].mean()) for b in bins) / len(order))
    xs, ys = _curve(values, hits)
    return Calibration(len(values), float(hits.mean()), float(np.mean(errors)), xs.tolist(), ys.tolist())


def _curve(values: Any, hits: Any) -> tuple[Any, Any]:
    from scipy.optimize import isotonic_regression

    bins = np.array_split(np.argsort(values, kind="stable"), max(1, len(values) // _BIN))
    shares = isotonic_regression([hits[b].mean() for b in bins], weights=[len(b) for b in bins]).x
    return np.array([values[b].mean() for b in bins]), shares


def _write_review(
    path: Path, segments: Sequence[Segment], parts: Sequence[list[str]], judged: dict[str, TranslatedSentence]
) -> None:
    """The sentences with problems first, then the least certain; each once, at its first place."""
    rows: dict[str, tuple[str, TranslatedSentence, list[str]]] = {}
    for segment, some in zip(segments, parts, strict=True):
        for sentence in some[::2]:
            each = judged[sentence]
            problems = [*each.problems, *([segment.note] if segment.note else [])]
            rows.setdefault(sentence, (segment.place, each, problems))
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["place", "confidence", "likelihood", "source", "translation", "problems"])
    for place, each, problems in sorted(rows.values(), key=lambda row: (not row[2], row[1].likelihood)):
        sure = "" if each.confidence is None else f"{each.confidence:.2f}"
        table.writerow([place, sure, f"{each.likelihood:.3f}", each.source, each.translation, "; ".join(problems)])
    with atomic(path) as file:
        file.write(buffer.getvalue().encode("utf-8-sig"))  # the mark lets Excel see that it is UTF-8
