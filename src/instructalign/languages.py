"""Language codes and names.

Inside instructalign a language has one code: its ISO 639-3 code (`eng`), followed by the script only if it is not
the one the language is usually written in (`ace_Arab`, `zho_Hant`). Two-letter codes, BCP 47 tags, FLORES and
gettext codes and English names are accepted (`en`, `eng_Latn`, `zh-TW`, `sr@latin`, `Javanese`). Languages without
a code take one of ISO's private codes, `qaa` to `qtz`, and a name from the configuration (`languages.names`).

Scripts and regions are those of the Unicode CLDR, codes and names those of the IANA language subtag registry; both
come with `langcodes` and `language_data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated

from langcodes import Language
from langcodes.data_dicts import (
    LANGUAGE_ALPHA3,
    LANGUAGE_ALPHA3_BIBLIOGRAPHIC,
    LANGUAGE_REPLACEMENTS,
    LIKELY_SUBTAGS,
    MACROLANGUAGES,
)
from langcodes.tag_parser import LanguageTagError
from pydantic import AfterValidator

from instructalign.errors import DataError

_WITHDRAWN = {
    "in": "ind",
    "iw": "heb",
    "ji": "yid",
    "jw": "jav",
    "mo": "ron",
}  # now he, id, …
_ALPHA3 = {code: str(alpha3) for code, alpha3 in LANGUAGE_ALPHA3.items() if len(code) == 2}  # not fa-AF
_ALPHA3 |= {"sh": "hbs", **_WITHDRAWN}
_ALPHA2 = {alpha3: alpha2 for alpha2, alpha3 in _ALPHA3.items() if alpha2 not in _WITHDRAWN}
_TERMINOLOGICAL = {code: LANGUAGE_ALPHA3[alpha2] for alpha2, code in LANGUAGE_ALPHA3_BIBLIOGRAPHIC.items()}
_NO_LANGUAGE = {"mis", "mul", "und", "zxx"}

SIDES = ("source", "target", "src", "tgt", "trg", "source_text", "target_text", "src_text", "tgt_text")
"""What columns are called that have a text and its translation; src, tgt and trg are codes of languages, too."""

# gettext's modifiers that name a script; the others (@euro, @valencia) do not.
_MODIFIERS = {"latin": "Latn", "iqtelif": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva", "arabic": "Arab"}

# Wikipedia's codes that look like a language and a region but are neither.
_WIKIPEDIA = {
    "bat-smg": "sgs",
    "cbk-zam": "cbk",
    "fiu-vro": "vro",
    "roa-rup": "rup",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
}

_REGIONAL = {("fas", "AF"): "prs", ("swa", "CD"): "swc"}  # CLDR's aliases of codes that are kept apart here
_ARABIC = {("kur", "IQ"), ("kur", "IR")}  # of which CLDR has only ku-Arab, for Iraq

_LANGUAGE_OF = re.compile(r"(bahasa|basa|langue|idioma|lengua|língua|lingua)\s+", re.IGNORECASE)
_TAG = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z0-9]{1,8})*)(?:\.[\w-]+)?(?:@(\w+))?")


@dataclass(frozen=True, slots=True)
class LanguageEntry:
    """A language as `instructalign languages` lists it.

    Attributes:
        code: its ISO 639-3 code.
        alpha2: its two-letter code; empty if it has none.
        names: its English names, the usual one first.
        script: the four-letter code of the script that it is usually written in.
    """

    code: str
    alpha2: str
    names: tuple[str, ...]
    script: str


@lru_cache(maxsize=4096)
def canonical(code: str) -> str:
    """The code of a language inside instructalign: `en`, `eng_Latn`, `English` → `eng`; `zh-TW` → `zho_Hant`.

    A region is kept only through the script that it implies. `canonical` of its own result changes nothing.

    Raises:
        DataError: there is no such language, its name is ambiguous, or it is a variant without a code of its own.
    """
    text = code.strip()
    match = _TAG.fullmatch(text)
    if match and (found := _of_tag(text, *match.groups())):
        return found
    return _of_name(text)


def _of_tag(text: str, head: str, subtags: str, modifier: str | None) -> str | None:
    """The canonical code of a tag; None if its language subtag is unknown."""
    plain = (head + subtags).replace("_", "-").lower()
    if plain in _WIKIPEDIA:
        return _WIKIPEDIA[plain]
    if plain == "nds-nl":
        raise DataError(
            f"{text!r}: the Low Saxon of the Netherlands has codes by dialect (gos, drt, twd, sdz, stl, act). "
            "Use one of them, or a private code from 'qaa' to 'qtz' with a name in languages.names."
        )
    alpha3 = _alpha3(head)
    if alpha3 is None:
        return None
    try:
        tag = Language.get(f"{_ALPHA2.get(alpha3, alpha3)}{subtags.replace('_', '-')}", normalize=False)
    except (LanguageTagError, ValueError):
        return None
    if tag.extlangs:  # zh-yue: the extended language is the language
        alpha3 = _alpha3(tag.extlangs[0]) or alpha3
    kept_apart = [*(tag.variants or ()), *([tag.private] if tag.private else ())]
    if modifier and modifier.lower() not in {*_MODIFIERS, "euro"}:
        kept_apart.append(modifier)
    if kept_apart:
        raise DataError(
            f"{text!r}: the variant {kept_apart[0]!r} of {english_name(alpha3)} has no code of its own. To keep "
            f"it apart, use a private code from 'qaa' to 'qtz' with a name in languages.names; to treat it as "
            f"{english_name(alpha3)}, write {alpha3!r}."
        )
    alpha3 = _REGIONAL.get((alpha3, tag.territory or ""), alpha3)
    script = tag.script or _MODIFIERS.get((modifier or "").lower())
    if (alpha3, tag.territory) in _ARABIC:
        script = script or "Arab"
    if script is None and tag.territory:
        script = Language.get(f"{_ALPHA2.get(alpha3, alpha3)}-{tag.territory}", normalize=False).maximize().script
        if not _is_likely(alpha3):  # langcodes then falls back to Latin, whatever the language
            script = None
    return alpha3 if script in (None, usual_script(alpha3)) else f"{alpha3}_{script}"


def _alpha3(head: str) -> str | None:
    """The ISO 639-3 code of a language subtag of two or three letters; None if there is none.

    Not replaced by a macrolanguage: Tagalog stays apart from Filipino, Dari from Persian.
    """
    head = head.lower()
    if head in _ALPHA3:
        return _ALPHA3[head]
    head = _TERMINOLOGICAL.get(head, head)
    if head in _NO_LANGUAGE or len(head) != 3:
        return None
    # BCP 47 knows a language that has a two-letter code by that code only.
    valid = is_private(head) or Language.get(_ALPHA2.get(head, head), normalize=False).is_valid()
    return head if valid else None


@lru_cache(maxsize=4096)
def usual_script(alpha3: str) -> str:
    """The script that a language is usually written in, by the CLDR's likely subtags; Latin if it has none."""
    tag = _ALPHA2.get(alpha3, alpha3)
    if tag not in LIKELY_SUBTAGS:
        tag = LANGUAGE_REPLACEMENTS.get(alpha3) or MACROLANGUAGES.get(alpha3) or tag
    return str(Language.get(tag, normalize=False).maximize().script or "Latn")


def _is_likely(alpha3: str) -> bool:
    return _ALPHA2.get(alpha3, alpha3) in LIKELY_SUBTAGS


def _of_name(text: str) -> str:
    """The code of a language by its English name, or its name in another language.

    Raises:
        DataError: no language, or several, have that name.
    """
    codes = _codes_of_name(text)
    if len(codes) == 1:
        return codes[0]
    if codes:
        listed = ", ".join(f"{code} ({english_name(code)})" for code in codes)
        raise DataError(f"{text!r} is the name of several languages: {listed}. Use the code.")
    if elsewhere := _named_in_any_language(text):
        return elsewhere
    close = get_close_matches(_folded(text), _codes_by_name(), n=3, cutoff=0.75) if len(text) > 3 else []
    near = [f"{name.title()} ({'/'.join(_codes_by_name()[name])})" for name in close]
    country = f"und-{text.upper()}"
    if len(text) == 2 and country in LIKELY_SUBTAGS:
        spoken = canonical(Language.get(country).maximize().language or "")
        near = [f"{spoken} ({english_name(spoken)}), as {text.upper()} is a country"]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    if text.lower() in SIDES:
        meant = " It is a side of a corpus: write which language that is, such as {eng: English, jav: Javanese}."
    raise DataError(
        f"{text!r} is not a language code or name.{meant} Use ISO 639-3 ('jav'), ISO 639-1 ('jv'), a FLORES code "
        "('jav_Latn'), an English name ('Javanese'), or a private code from 'qaa' to 'qtz' with a name in "
        "languages.names. `instructalign languages TEXT` searches codes and names."
    )


def _codes_of_name(text: str) -> list[str]:
    # A name of two letters, such as Ge, is far likelier the code of a country.
    codes = _codes_by_name().get(_folded(text), []) if len(text) > 2 else []
    if len(codes) > 1:  # "Malay" is the name of the macrolanguage rather than "Malay (individual language)"
        codes = [code for code in codes if _folded(english_name(code)) == _folded(text)] or codes
    return codes


def code_of_name(text: str) -> str:
    """The code of a language by its name of at least four letters, also after a word for language: Bahasa Jawa.

    Empty where it is the name of none or of several; nothing is guessed, so that it may be asked of any text.
    """
    for name in (text.strip(), _LANGUAGE_OF.sub("", text.strip())):
        codes = _codes_of_name(name) if len(name) > 3 else []
        if code := codes[0] if len(codes) == 1 else "" if codes else _named_in_any_language(name):
            return code
    return ""


def find_languages(text: str = "") -> list[LanguageEntry]:
    """The languages with a text in their code or an English name, exact matches first; all without a text."""
    wanted = _folded(text)
    found = []
    for entry in _registry():
        names = [_folded(name) for name in entry.names]
        if wanted in (entry.code, entry.alpha2) or wanted in names:
            found.append((0, entry))
        elif any(wanted in name for name in names):
            found.append((1, entry))
    if text and not found:
        close = get_close_matches(wanted, _codes_by_name(), n=5, cutoff=0.75)
        codes = {code for name in close for code in _codes_by_name()[name]}
        found = [(2, entry) for entry in _registry() if entry.code in codes]
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].code))]


def _named_in_any_language(text: str) -> str | None:
    """The code of a language by its exact name in any language of the CLDR: "Bahasa Indonesia", "français"."""
    from language_data import names
    from language_data.util import data_filename

    # Not `langcodes.find`, which takes a prefix for the name: "Basa Jawa" would be Basaa.
    trie = names.load_trie(data_filename("trie/und/name_to_language.marisa"))
    key = names.normalize_name(text)
    found = names.get_trie_value(trie, key) if key.isprintable() and key in trie else ""
    return _alpha3(found) if found.isalpha() else None


@lru_cache(maxsize=1)
def _registry() -> list[LanguageEntry]:
    """Every language of the IANA registry but collections, private and withdrawn codes."""
    entries: dict[str, LanguageEntry] = {}
    for fields in _records():
        head = fields["Subtag"][0] if fields.get("Type") == ["language"] else ""
        special = fields.get("Scope", [""])[0] in ("collection", "private-use", "special")
        if not head or special or ("Deprecated" in fields and "Preferred-Value" in fields):
            continue
        code = _alpha3(head)
        if code:
            alpha2 = head if len(head) == 2 else ""
            entries[code] = LanguageEntry(code, alpha2, tuple(fields["Description"]), usual_script(code))
    return list(entries.values())


def _records() -> Iterator[dict[str, list[str]]]:
    """The records of the IANA language subtag registry as fields with their values (RFC 5646, section 3.1)."""
    from language_data.util import data_filename

    with open(data_filename("language-subtag-registry.txt"), encoding="utf-8") as file:  # noqa: PTH123
        fields: dict[str, list[str]] = {}
        for line in file:
            if line.startswith("%%"):
                yield fields
                fields = {}
            elif line.startswith(" ") and fields:
                fields[next(reversed(fields))][-1] += " " + line.strip()
            else:
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.strip())
        yield fields


@lru_cache(maxsize=1)
def _codes_by_name() -> dict[str, list[str]]:
    """Codes by folded English name; a name that a parenthesis tells apart counts without it as well."""
    codes: dict[str, list[str]] = {}
    for entry in _registry():
        for name in {_folded(name) for full in entry.names for name in (full, re.sub(r" \(.*\)", "", full))}:
            codes.setdefault(name, []).append(entry.code)
    return codes


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("’", "'").replace("-", " ").replace("_", " ").split())


@lru_cache(maxsize=4096)
def english_name(code: str) -> str:
    """The English name of a language: `jav` → "Javanese". A private code is its own name."""
    if is_private(code):
        return code
    return str(_language(canonical(code)).display_name("en"))


def is_private(code: str) -> bool:
    """Whether a code is in ISO 639-3's range for private use, `qaa` to `qtz`."""
    return len(code) == 3 and "qaa" <= code <= "qtz"


def name_in(code: str, prompt_language: str) -> str:
    """The name of a language in another: `name_in("jav", "ind")` → "Jawa".

    Falls back to the English name if the Unicode CLDR has none in that language.
    """
    if is_private(code):
        return code
    name = str(_language(canonical(code)).display_name(prompt_language))
    return english_name(code) if name.startswith("Unknown language") else name


def _language(code: str) -> Language:
    """The language of a canonical code."""
    head, *rest = code.split("_")
    return Language.get("-".join([_ALPHA2.get(head, head), *rest]), normalize=False)


def language_code(value: str) -> str:
    """The canonical code of a language, for pydantic: like `canonical`, but raises ValueError."""
    try:
        return canonical(value)
    except DataError as error:
        raise ValueError(str(error)) from None


_SYNTHETIC = "-x-synth"  # a private subtag (BCP 47), so that nothing that asks for a language gets such text


def synthetic_code(code: str) -> str:
    """The code under which a row has text in a language that a machine wrote."""
    return plain_code(code) + _SYNTHETIC


def plain_code(code: str) -> str:
    """The language of a code, whoever wrote the text."""
    return code.removesuffix(_SYNTHETIC)


def is_synthetic(code: str) -> bool:
    """Whether a code is one of `synthetic_code`."""
    return code.endswith(_SYNTHETIC)


LanguageCode = Annotated[str, AfterValidator(language_code)]
"""Any code of a language (`jv`, `jav`, `jav_Latn`), made canonical."""
