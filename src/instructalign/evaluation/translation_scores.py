"""chrF++, BLEU and spBLEU of translations through sacrebleu, with intervals, and what else can go wrong.

Of each sentence the statistics are kept that the metrics sum up (n-gram matches and lengths); a draw of the
bootstrap is another sum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from langcodes import Language
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.predictions import read_manifest
from instructalign.evaluation.significance import Bootstrap, Values, interval
from instructalign.evaluation.translate import Translated, read_translations
from instructalign.records import Score

log = logging.getLogger(__name__)

UNSPACED = {"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts without spaces between words, on which BLEU over words says nothing."""


def metrics_for(target: str) -> dict[str, Any]:
    """By name, sacrebleu's metrics that can be trusted for a target language.

    chrF++ (Popović 2017) counts characters and serves every language; BLEU (Papineni et al. 2002) needs words;
    spBLEU (Goyal et al. 2022) the subword model of FLORES-200, which sacrebleu fetches once.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    chosen: dict[str, Any] = {"chrf": CHRF(word_order=2)}
    if Language.get(target.replace("_", "-")).maximize().script not in UNSPACED:
        chosen["bleu"] = BLEU()
    if subwords_at_hand():
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


def score_translations(
    out: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap
) -> list[Score]:
    """Every metric of the translations in an evaluation folder, by language and by group.

    Args:
        out: the folder; it need not hold translations.
        groups: language codes by group; a group's score is the mean over its languages.
        run: name of the run.
        bootstrap: gives the intervals.

    Returns:
        Scores between 0 and 1: `chrf`, `bleu`, `spbleu`, and the shares that are `copied` from the source, are
        `empty`, or are `unfinished`. The task of a score tells the direction: `…/from-eng`, `…/into-eng`.
    """
    folder = out / "translations"
    manifest = read_manifest(folder)
    scores: list[Score] = []
    grouped: dict[tuple[str, str, str], list[tuple[Values, Mapping[str, Any]]]] = {}
    signatures: dict[str, str] = {}
    for file, entry in manifest.get("tasks", {}).items():
        group = next((name for name, codes in groups.items() if entry["language"] in codes), "")
        for metric, (values, signatures[metric]) in _measure(read_translations(folder / file), bootstrap).items():
            signed = _sign([entry], signatures[metric], manifest["model"]["hash"], bootstrap)
            row = _row(run, entry["language"], group, metric, values, [entry], signed)
            scores.append(row)
            grouped.setdefault((entry["title"], metric, group), []).append((values, entry))
    for (_, metric, group), members in grouped.items():
        if group:
            entries = [entry for _, entry in members]
            mean = np.mean([values for values, _ in members], axis=0)
            signed = _sign(entries, signatures[metric], manifest["model"]["hash"], bootstrap)
            scores.append(_row(run, "", group, metric, mean, entries, signed))
    return scores


def _row(
    run: str,
    language: str,
    group: str,
    metric: str,
    values: Values,
    entries: Sequence[Mapping[str, Any]],
    signature: str,
) -> Score:
    low, high = interval(values)
    count = sum(entry["items"] for entry in entries)
    return Score(run, entries[0]["title"], language, group, metric, float(values[0]), low, high, count, signature)


def _sign(entries: Sequence[Mapping[str, Any]], metric: str, model: str, bootstrap: Bootstrap) -> str:
    parts = {
        "task": entries[0]["title"],
        "split": entries[0]["split"],
        "languages": "+".join(entry["language"] for entry in entries),
        "n": "+".join(str(entry["items"]) for entry in entries),
        "prompts": "+".join(entries[0]["prompts"]),
        "questions": entries[0]["questions"][:8],
        "bootstrap": bootstrap.rounds,
        "model": model,
        "version": entries[0]["version"],
        "sacrebleu": metric.replace("|", ","),
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())


def _measure(records: Sequence[Translated], bootstrap: Bootstrap) -> dict[str, tuple[Values, str]]:
    """By metric, the value on the sentences and on every draw, the mean over prompts, and its signature."""
    by_prompt: dict[str, list[Translated]] = {}
    for record in records:
        by_prompt.setdefault(record.prompt, []).append(record)
    items = [tuple(record.item for record in some) for some in by_prompt.values()]
    if len(set(items)) != 1:
        raise DataError(f"the translations of {records[0].task} are not of the same sentences under every prompt.")
    weights = bootstrap.weights(items[0]).astype(np.float64)
    found: dict[str, tuple[Values, str]] = {}
    for name, metric in metrics_for(records[0].target).items():
        values = np.mean([_corpus_values(metric, some, weights) for some in by_prompt.values()], axis=0)
        found[name] = values, str(metric.get_signature())
    shares: dict[str, Callable[[Translated], bool]] = {
        "copied": lambda record: record.translation.split() == record.text.split(),
        "empty": lambda record: not record.translation,
        "unfinished": lambda record: record.unfinished,
    }
    for name, is_so in shares.items():
        flags = np.array([[is_so(record) for record in some] for some in by_prompt.values()], dtype=np.float64)
        found[name] = (weights @ flags.mean(0)) / weights.sum(1), "none"
    return found


def _corpus_values(metric: Any, records: Sequence[Translated], weights: NDArray[np.float64]) -> Values:
    """A corpus metric on weighted sentences, one value a row of weights, between 0 and 1."""
    texts, references = [record.translation for record in records], [record.reference for record in records]
    # The statistics of a sentence are not part of sacrebleu's public interface, but its own bootstrap uses
    # them in this way; a test compares the outcome with corpus_score.
    statistics = np.array(metric._extract_corpus_statistics(texts, [references]), dtype=np.float64)
    sums = weights @ statistics
    return np.array([metric._compute_score_from_stats(row.tolist()).score for row in sums]) / 100
