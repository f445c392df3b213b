"""Metrics of translations (sacrebleu) and which metric covers which language."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache
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
from instructalign.evaluation.bootstrap import Bootstrap, BootstrapScores, Sample, Signer, score_rows, signer
from instructalign.evaluation.comet import comet_scores
from instructalign.evaluation.predictions import Translated, read_evaluation_manifest, read_translations
from instructalign.files import file_hash
from instructalign.languages import is_private
from instructalign.types import Score

HERE = files("instructalign.evaluation")

UNSPACED = {"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts without spaces between words, on which BLEU over words says nothing."""


def refusal(metric: str, language: str, comet_languages: Collection[str] | None = None) -> str:
    """Why a metric of translations says nothing about a language; empty where it can be trusted.

    chrF++ (Popović 2017) counts characters and serves every language. BLEU (Papineni et al. 2002) needs words,
    spBLEU (Goyal et al. 2022) a subword model, and COMET (Rei et al. 2020) an encoder, that know the language.

    Args:
        metric: `chrf`, `bleu`, `spbleu`, `comet`, or any other, which serves all languages.
        language: code.
        comet_languages: the languages of a COMET model that is not built on XLM-R.
    """
    if metric == "bleu" and script_of(language) in UNSPACED:
        return "its script has no spaces between words"
    if metric == "spbleu" and language not in _flores200():
        return "the subword model of FLORES-200 was not trained on it"
    if metric == "comet" and language not in (_xlmr() if comet_languages is None else comet_languages):
        return "the encoder of COMET was not trained on it"
    return ""


def script_of(language: str) -> str:
    """The script a language is written in (`Latn`); empty where that is not known."""
    if is_private(language):
        return ""
    return Language.get(language.replace("_", "-")).maximize().script or ""


@lru_cache(maxsize=1)
def _flores200() -> frozenset[str]:
    return frozenset(yaml.safe_load((HERE / "languages" / "flores200.yaml").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def _xlmr() -> frozenset[str]:
    return frozenset(yaml.safe_load((HERE / "coverage.yaml").read_text(encoding="utf-8"))["xlmr"])


log = logging.getLogger(__name__)

NEAR = 0.9
"""Likeness from which a translation counts as a copy of its source: twice the matching characters over all."""

Shares = Mapping[str, tuple[Callable[[Translated], bool | None], str]]
"""By name, what is true or false of a translation, or None where it cannot be said; and how it is found out."""


def metrics_for(target: str) -> dict[str, Any]:
    """By name, sacrebleu's metrics that can be trusted for a target language; see `coverage.refusal`."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    chosen: dict[str, Any] = {"chrf": CHRF(word_order=2)}
    if not refusal("bleu", target):
        chosen["bleu"] = BLEU()
    if not refusal("spbleu", target) and subwords_at_hand():
        chosen["spbleu"] = BLEU(tokenize="flores200")
    return chosen


@lru_cache(maxsize=1)
def subwords_at_hand() -> bool:
    """Whether spBLEU's subword model is on this machine; where it is not, that is said once."""
    from sacrebleu.utils import SACREBLEU_DIR

    there = (Path(SACREBLEU_DIR) / "models" / "flores200sacrebleuspm").exists()
    there = there and find_spec("sentencepiece") is not None
    if not there:
        log.warning(
            "spBLEU is left out: its subword model is not on this machine. With sentencepiece installed, "
            "sacrebleu fetches it when it is first used: echo . | sacrebleu --tokenize flores200 -i - /dev/null"
        )
    return there


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
        language_id: a fastText model that tells languages apart.
        comet: by record, its COMET score.
        only: the one metric that is wanted; all of them by default.

    Raises:
        DataError: not the same sentences stand under every prompt, or the fastText model cannot be used.
    """
    by_prompt: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_prompt.setdefault(record.prompt, []).append(index)
    items = [tuple(records[index].item for index in some) for some in by_prompt.values()]
    if len(set(items)) != 1:
        raise DataError(f"the translations of {records[0].task} are not of the same sentences under every prompt.")
    order = [index for some in by_prompt.values() for index in some]
    first = records[0]

    def sample(statistics: NDArray[np.float64], score: Callable[[NDArray[np.float64]], BootstrapScores]) -> Sample:
        shaped = statistics[order].reshape(len(by_prompt), len(items[0]), -1)
        language = first.target
        return Sample(first.task, language, tuple(by_prompt), items[0], shaped, score)

    found: dict[str, tuple[Sample, dict[str, str]]] = {}
    for name, metric in metrics_for(first.target).items():
        if only not in ("", name):
            continue
        found[name] = sample(*_sacrebleu(metric, records)), {"sacrebleu": str(metric.get_signature())}
    for name, (is_so, how) in ({} if only else _shares(first.target, language_id)).items():
        answers = [is_so(record) for record in records]
        counts = np.array([[bool(answer), answer is not None] for answer in answers], dtype=np.float64)
        found[name] = sample(counts, _ratio), {"measure": how}
    if comet is not None:
        found["comet"] = sample(np.stack([np.asarray(comet), np.ones(len(records))], axis=1), _ratio), {}
    return found


def _sacrebleu(
    metric: Any, records: Sequence[Translated]
) -> tuple[NDArray[np.float64], Callable[[NDArray[np.float64]], BootstrapScores]]:
    """The statistics of sentences, and the corpus score of sums of them, between 0 and 1."""
    texts, references = [record.translation for record in records], [record.reference for record in records]
    # The statistics of a sentence are not part of sacrebleu's public interface, but its own bootstrap uses
    # them in this way; a test compares the outcome with corpus_score.
    statistics = np.array(metric._extract_corpus_statistics(texts, [references]), dtype=np.float64)

    def score(sums: NDArray[np.float64]) -> BootstrapScores:
        rows = sums.reshape(-1, sums.shape[-1])
        values = [metric._compute_score_from_stats(row.tolist()).score / 100 for row in rows]
        return np.array(values).reshape(sums.shape[:-1])

    return statistics, score


def _ratio(sums: NDArray[np.float64]) -> BootstrapScores:
    """The first count over the second; 0 where nothing was counted."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)


def _shares(target: str, language_id: Path | None) -> Shares:
    """What is counted of translations into a language."""
    shares: dict[str, tuple[Callable[[Translated], bool | None], str]] = {
        "copied": (is_copied, f"likeness to source ≥ {NEAR}"),
        "empty": (lambda record: not record.translation, "nothing written"),
        "unfinished": (lambda record: record.unfinished, "as long as allowed"),
    }
    if script_of(target):
        shares["wrong_script"] = (is_in_wrong_script, "half of the letters or more in another script")
    if language_id is not None:
        shares.update(_off_target(target, language_id))
    return shares


def is_copied(record: Translated) -> bool:
    """Whether a translation is its source, or nearly so, and the reference is not (as that of a name would be).

    Case and punctuation do not count.
    """
    source = fingerprint(record.text)
    return _alike(source, fingerprint(record.translation)) and not _alike(source, fingerprint(record.reference))


def _alike(one: str, other: str) -> bool:
    if not one or not other:
        return False
    # The quick ratios are upper bounds of the exact one (Ratcliff and Obershelp 1988).
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= NEAR and matcher.ratio() >= NEAR


def is_in_wrong_script(record: Translated) -> bool | None:
    """Whether most letters of a translation are not of the target's script; None where it has no letters."""
    if not any(character.isalpha() for character in record.translation):
        return None
    return score_script(record.translation, record.target) <= 0.5


def _off_target(target: str, model: Path) -> Iterator[tuple[str, tuple[Callable[[Translated], bool | None], str]]]:
    """Translations whose likeliest language is not the target (Zhang et al. 2020), and references likewise.

    The references' share is what a perfect translation would get: no model tells close languages apart surely.
    """
    identifier = _identifier(model)
    if target not in identifier.known:
        log.warning("off-target translations into %s are not counted: %s does not know it", target, model.name)
        return
    how = f"fastText {model.name} {_hash(model)}"

    def elsewhere(text: str) -> bool | None:
        return identifier.guesses(text)[0][0] != target if text.strip() else None

    yield "off_target", (lambda record: elsewhere(record.translation), how)
    yield "off_target_reference", (lambda record: elsewhere(record.reference), how)


@lru_cache(maxsize=2)
def _identifier(model: Path) -> LanguageIdentifier:
    return LanguageIdentifier(model)


@lru_cache(maxsize=2)
def _hash(model: Path) -> str:
    return file_hash(model)[:8] if model.is_file() else ""


log = logging.getLogger(__name__)


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
        source, `off_target`, in the `wrong_script`, `empty` or `unfinished`. The task of a score tells the
        direction: `…/from-eng`, `…/into-eng`.
    """
    settings = settings or EvaluationConfig()
    folder = out / "translations"
    manifest = read_evaluation_manifest(folder)
    found: dict[tuple[str, str], list[Sample]] = {}
    signers: dict[tuple[str, str], Signer] = {}
    for file, entry in manifest.get("tasks", {}).items():
        records = read_translations(folder / file)
        comet = _comet(records, out / "comet" / f"{file.removesuffix('.jsonl')}.json", settings)
        for metric, (sample, how) in measure(records, language_id=settings.language_id, comet=comet).items():
            how = how or {"comet": settings.comet.model if settings.comet else ""}
            place = entry["title"], metric
            found.setdefault(place, []).append(replace(sample, task=entry["title"], language=entry["language"]))
            signers[place] = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples, **how)
    scores: list[Score] = []
    for (task, metric), samples in found.items():
        values = {sample.language: bootstrap.scores([sample]) for sample in samples}
        scores += score_rows(samples, values, groups, run, metric, signers[task, metric])
    return scores


def _comet(records: Sequence[Translated], cache: Path, settings: EvaluationConfig) -> list[float] | None:
    """COMET's scores, where they are asked for and its encoder knows both languages."""
    if settings.comet is None:
        return None
    for code in (records[0].source, records[0].target):
        if reason := refusal("comet", code, settings.comet.languages):
            log.warning(
                "COMET is left out from %s into %s: %s: %s", records[0].source, records[0].target, code, reason
            )
            return None
    return comet_scores(records, settings.comet, cache)
