"""Which metric can be trusted for which language."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from importlib.resources import files

import yaml
from langcodes import Language

from instructalign.languages import is_private

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
