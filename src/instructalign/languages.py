"""Language codes and names.

A language is known inside instructalign by one code: its ISO 639-3 code (`eng`), with the script behind it
only where that is not the script the language is usually written in (`ace_Arab`). Two-letter codes, BCP 47
tags and FLORES codes are accepted (`en`, `eng_Latn`, `zh-Hant`). Languages that have no code take one of
ISO's private ones, `qaa` to `qtz`, and a name from the configuration (`languages.names`).
"""

from __future__ import annotations

from functools import lru_cache

from langcodes import Language
from langcodes.data_dicts import LANGUAGE_ALPHA3
from langcodes.tag_parser import LanguageTagError

from instructalign.errors import DataError

_WITHDRAWN = {"in", "iw", "ji", "jw"}  # two-letter codes that others have replaced
_ALPHA2 = {alpha3: alpha2 for alpha2, alpha3 in LANGUAGE_ALPHA3.items() if alpha2 not in _WITHDRAWN}


@lru_cache(maxsize=4096)
def canonical(code: str) -> str:
    """The code that instructalign uses for a language: `en` → `eng`, `eng_Latn` → `eng`.

    Raises:
        DataError: the code names no language.
    """
    try:
        language = _language(code.strip())
        alpha3 = language.to_alpha3()
    except (LanguageTagError, LookupError):
        raise DataError(_unknown(code)) from None
    if not language.is_valid():
        raise DataError(_unknown(code))
    usual = Language.get(alpha3).maximize().script
    return f"{alpha3}_{language.script}" if language.script and language.script != usual else alpha3


@lru_cache(maxsize=4096)
def english_name(code: str) -> str:
    """The English name of a language: `jav` → "Javanese". A private code is its own name."""
    if is_private(code):
        return code
    language = _language(canonical(code))
    return str(language.display_name("en"))


def is_private(code: str) -> bool:
    """Whether a code lies in ISO 639-3's range for private use, `qaa` to `qtz`."""
    return len(code) == 3 and "qaa" <= code <= "qtz"


def name_in(code: str, prompt_language: str) -> str:
    """The name of a language in another: `name_in("jav", "ind")` → "Jawa".

    Falls back to the English name where the Unicode CLDR has no name in that language.
    """
    if is_private(code):
        return code
    name = str(_language(canonical(code)).display_name(prompt_language))
    return english_name(code) if name.startswith("Unknown language") else name


def _language(tag: str) -> Language:
    """The language of a tag, not replaced by a macrolanguage (Tagalog stays apart from Filipino).

    BCP 47, and with it langcodes, knows a language that has a two-letter code by that code only.
    """
    head, *rest = tag.replace("_", "-").split("-")
    return Language.get("-".join([_ALPHA2.get(head.lower(), head), *rest]), normalize=False)


def _unknown(code: str) -> str:
    return (
        f"{code!r} is not a language code. Use ISO 639-3 ('jav'), ISO 639-1 ('jv'), a FLORES code "
        f"('jav_Latn'), or a private code from 'qaa' to 'qtz' with a name in languages.names."
    )
