"""Metrics of translations: chrF++, BLEU and spBLEU by sacrebleu, COMET, error rates; and their languages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache, partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from langcodes import Language
from numpy.typing import NDArray

from instructalign.config import EvaluationConfig
from instructalign.data.filters import LanguageIdentifier, score_script
from instructalign.data.normalization import fingerprint
from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Bootstrap,
    BootstrapScores,
    Sample,
    Signer,
    ratio,
    score_rows,
    signer,
)
from instructalign.evaluation.comet import comet_scores
from instructalign.evaluation.predictions import Translated, read_evaluation_manifest, read_records
from instructalign.evaluation.score_table import COPYING
from instructalign.files import file_hash
from instructalign.languages import is_private
from instructalign.types import Score

log = logging.getLogger(__name__)

_UNSPACED = {
    "Hans",
    "Hant",
    "Jpan",
    "Thai",
    "Laoo",
    "Khmr",
    "Mymr",
    "Tibt",
}  # scripts without word spaces
_COPY_SIMILARITY = 0.9  # from which a text counts as a copy: twice the matching characters over all

Check = Callable[[Translated], bool | None]
"""Whether something is wrong with a translation; None where that cannot be decided."""


# -- which metric covers which language ----------------------------------------------------------------------


def refusal(metric: str, language: str, comet_languages: Collection[str] | None = None) -> str:
    """Why a metric says nothing about translations into a language; empty where it can be trusted.

    chrF++ (Popović 2017) counts characters and covers every language. BLEU (Papineni et al. 2002) needs words,
    spBLEU (Goyal et al. 2022) a subword model, and COMET (Rei et al. 2020) an encoder, that know the language.

    Args:
        metric: `chrf`, `bleu`, `spbleu`, `comet`, or any other, which covers all languages.
        language: code.
        comet_languages: the languages of a COMET model that is not built on XLM-R.
    """
    if metric == "bleu" and script_of(language) in _UNSPACED:
        return "its script has no spaces between words"
    if metric == "spbleu" and language not in _languages_in("languages/flores200.yaml"):
        return "the subword model of FLORES-200 was not trained on it"
    if metric == "comet":
        covered = _languages_in("coverage.yaml", "xlmr") if comet_languages is None else comet_languages
        return "" if language in covered else "the encoder of COMET was not trained on it"
    return ""


def script_of(language: str) -> str:
    """The script a language is written in (`Latn`); empty where that is not known."""
    if is_private(language):
        return ""
    return Language.get(language.replace("_", "-")).maximize().script or ""


@lru_cache
def _languages_in(file: str, key: str = "") -> frozenset[str]:
    content = yaml.safe_load(files("instructalign.evaluation").joinpath(file).read_text(encoding="utf-8"))
    return frozenset(content[key] if key else content)


def metrics_for(target: str) -> dict[str, Any]:
    """By name, sacrebleu's metrics that can be trusted for a target language; see `refusal`."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metrics: dict[str, Any] = {"chrf": CHRF(word_order=2)}
    if not refusal("bleu", target):
        metrics["bleu"] = BLEU()
    if not refusal("spbleu", target) and spbleu_is_installed():
        metrics["spbleu"] = BLEU(tokenize="flores200")
    return metrics


@lru_cache(maxsize=1)
def spbleu_is_installed() -> bool:
    """Whether spBLEU's subword model is on this machine; logs once if it is not."""
    from sacrebleu.utils import SACREBLEU_DIR

    found = (Path(SACREBLEU_DIR) / "models" / "flores200sacrebleuspm").exists()
    found = found and find_spec("sentencepiece") is not None
    if not found:
        log.warning(
            "spBLEU is left out: its subword model is not on this machine. With sentencepiece installed, "
            "sacrebleu downloads it on first use: echo . | sacrebleu --tokenize flores200 -i - /dev/null"
        )
    return found


# -- measuring -----------------------------------------------------------------------------------------------


def measure(
    records: Sequence[Translated],
    *,
    language_id: Path | None = None,
    comet: Sequence[float] | None = None,
    only: str = "",
) -> dict[str, tuple[Sample, dict[str, str]]]:
    """By metric, the statistics of translations in one direction, and how they were measured, for the signature.

    Args:
        records: of one task and direction, under one or more prompts.
        language_id: a fastText model for language identification.
        comet: by record, its COMET score.
        only: name of a single metric of sacrebleu; all metrics by default.

    Raises:
        DataError: the prompts have different sentences, or the fastText model cannot be used.
    """
    first = records[0]
    by_prompt: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_prompt.setdefault(record.prompt, []).append(index)
    items = [tuple(records[index].item for index in some) for some in by_prompt.values()]
    if len(set(items)) != 1:
        raise DataError(f"the translations of {first.task} are not of the same sentences under every prompt.")
    order = [index for some in by_prompt.values() for index in some]

    def sample(statistics: NDArray[np.float64], score: Callable[[NDArray[np.float64]], BootstrapScores]) -> Sample:
        shaped = statistics[order].reshape(len(by_prompt), len(items[0]), -1)
        return Sample(first.task, first.target, tuple(by_prompt), items[0], shaped, score)

    found: dict[str, tuple[Sample, dict[str, str]]] = {}
    texts, references = [record.translation for record in records], [record.reference for record in records]
    for name, metric in metrics_for(first.target).items():
        if only in ("", name):
            # The statistics of a sentence are not part of sacrebleu's public interface, but its own bootstrap
            # uses them in this way; a test compares the outcome with corpus_score.
            statistics = np.array(metric._extract_corpus_statistics(texts, [references]), dtype=np.float64)
            signature = {"sacrebleu": str(metric.get_signature())}
            found[name] = sample(statistics, partial(corpus_score, metric)), signature
    if only:
        return found
    for name, (check, how) in _checks(first.target, language_id).items():
        answers = [check(record) for record in records]
        counts = np.array([[bool(answer), answer is not None] for answer in answers], dtype=np.float64)
        found[name] = sample(counts, ratio), {"measure": how}
    if comet is not None:
        found["comet"] = sample(np.stack([np.asarray(comet), np.ones(len(records))], axis=1), ratio), {}
    return found


def corpus_score(metric: Any, sums: NDArray[np.float64]) -> BootstrapScores:
    """sacrebleu's corpus score of sums of statistics [..., k], between 0 and 1."""
    rows = sums.reshape(-1, sums.shape[-1])
    values = [metric._compute_score_from_stats(row.tolist()).score / 100 for row in rows]
    return np.array(values).reshape(sums.shape[:-1])


# -- error rates ---------------------------------------------------------------------------------------------


def _checks(target: str, language_id: Path | None) -> dict[str, tuple[Check, str]]:
    """What is checked of translations into a language: by name, the check and how it works."""
    checks: dict[str, tuple[Check, str]] = {
        "copied": (is_copied, f"similarity to source ≥ {_COPY_SIMILARITY}"),
        "empty": (lambda record: not record.translation, "no text"),
        "unfinished": (lambda record: record.unfinished, "at the length limit"),
    }
    if script_of(target):
        checks["wrong_script"] = (is_in_wrong_script, "half of the letters or more in another script")
    if language_id is not None:
        identifier, how = _identifier(language_id)
        if target not in identifier.known:
            log.warning("off-target translations into %s are not counted: not in %s", target, language_id.name)
            return checks

        def is_elsewhere(text: str) -> bool | None:
            return identifier.predict(text)[0][0] != target if text.strip() else None

        # Off-target translation: Zhang et al. 2020. The rate of the references is what a perfect translation would
        # get: no identifier separates closely related languages reliably.
        checks["off_target"] = (lambda record: is_elsewhere(record.translation), how)
        checks["off_target_reference"] = (lambda record: is_elsewhere(record.reference), how)
    return checks


@lru_cache(maxsize=2)
def _identifier(model: Path) -> tuple[LanguageIdentifier, str]:
    """A fastText model, and its name and hash for signatures."""
    return LanguageIdentifier(model), f"fastText {model.name} {file_hash(model)[:8] if model.is_file() else ''}"


def is_copied(record: Translated) -> bool:
    """Whether a translation is nearly its source and the reference is not (as that of a name would be).

    Case and punctuation do not count.
    """
    source = fingerprint(record.text)
    return are_similar(source, fingerprint(record.translation)) and not are_similar(
        source, fingerprint(record.reference)
    )


def are_similar(one: str, other: str) -> bool:
    """Whether two texts have at least 90 % of their characters in common (Ratcliff and Obershelp 1988)."""
    if not one or not other:
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    # The quick ratios are upper bounds of the exact one.
    quick = min(matcher.real_quick_ratio(), matcher.quick_ratio())
    return quick >= _COPY_SIMILARITY and matcher.ratio() >= _COPY_SIMILARITY


def is_in_wrong_script(record: Translated) -> bool | None:
    """Whether half of a translation's letters or more are not of the target's script; None without letters."""
    if not any(character.isalpha() for character in record.translation):
        return None
    return score_script(record.translation, record.target) <= 0.5


# -- scores of an evaluation ---------------------------------------------------------------------------------


def score_translations(
    out: Path,
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    settings: EvaluationConfig | None = None,
) -> list[Score]:
    """Every metric of the translations in an evaluation folder, by language and by group.

    Args:
        out: the folder; it need not hold translations.
        groups: language codes by group; a group's score is the mean over its languages that the metric covers.
        run: name of the run.
        bootstrap: gives the intervals.
        settings: names a model for language identification and one of COMET.

    Returns:
        Scores between 0 and 1: `chrf`, `bleu`, `spbleu`, `comet`, and the shares that are `copied` from the
        source, `off_target`, in the `wrong_script`, `empty` or `unfinished`. The task of a score names the
        direction: `…/from-eng`, `…/into-eng`. Those of a run named `copying` are of the sources themselves.
    """
    settings = settings or EvaluationConfig()
    manifest = read_evaluation_manifest(out / "translations")
    found: dict[tuple[str, str], list[Sample]] = {}
    copies: dict[tuple[str, str], dict[str, BootstrapScores]] = {}
    signers: dict[tuple[str, str, str], Signer] = {}
    for file, entry in manifest.get("tasks", {}).items():
        records = read_records(out / "translations" / file, Translated)
        title, language = entry["title"], entry["language"]
        comet = None
        if settings.comet is not None:
            pair = records[0].source, records[0].target
            reasons = [f"{c}: {reason}" for c in pair if (reason := refusal("comet", c, settings.comet.languages))]
            if reasons:
                log.warning("COMET is left out from %s into %s: %s", *pair, reasons[0])
            else:
                comet = comet_scores(records, settings.comet, out / "comet" / f"{Path(file).stem}.json")
        for metric, (sample, how) in measure(records, language_id=settings.language_id, comet=comet).items():
            if metric == "comet" and settings.comet is not None:
                how = {"comet": settings.comet.model}
            found.setdefault((title, metric), []).append(replace(sample, task=title, language=language))
            sign = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples, **how)
            signers[title, metric, language] = sign
        sources = [replace(record, translation=record.text) for record in records]
        for metric in metrics_for(records[0].target):
            value = Bootstrap(0, 0).scores([measure(sources, only=metric)[metric][0]])
            copies.setdefault((title, metric), {})[language] = value
    scores: list[Score] = []
    for (title, metric), samples in found.items():

        def sign_first(members: Sequence[Sample], title: str = title, metric: str = metric) -> Mapping[str, Any]:
            return signers[title, metric, members[0].language](members)

        scores += score_rows(samples, bootstrap, groups, run, metric, sign_first)
        if copied := copies.get((title, metric)):
            scores += score_rows(samples, copied, groups, COPYING, metric, sign_first)
    return scores
