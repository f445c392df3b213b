from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langcodes.data_dicts import LIKELY_SUBTAGS

from instructalign.errors import DataError
from instructalign.languages import canonical, english_name, find_languages, name_in, usual_script

EVERY = find_languages()
"""All of ISO 639-3 but collections, private and withdrawn codes."""


@pytest.mark.parametrize(
    ("given", "code", "english", "indonesian"),
    [
        ("eng", "eng", "English", "Inggris"),
        ("jv", "jav", "Javanese", "Jawa"),
        ("ind_Latn", "ind", "Indonesian", "bahasa Indonesia"),
        ("he", "heb", "Hebrew", "Ibrani"),
        ("ron", "ron", "Romanian", "Rumania"),
        ("ace_Arab", "ace_Arab", "Acehnese (Arabic)", "Aceh (Arab Persia)"),
        ("tgl", "tgl", "Tagalog", "Tagalog"),
        ("prs_Arab", "prs", "Dari", "Dari"),
    ],
)
def test_codes_and_names(given: str, code: str, english: str, indonesian: str) -> None:
    assert canonical(given) == code
    assert english_name(code) == english
    assert name_in(code, "ind") == indonesian


@pytest.mark.parametrize(
    ("given", "code"),
    [
        # regions that imply a script keep it, others do not matter
        ("zh-TW", "zho_Hant"),
        ("zh_HK", "zho_Hant"),
        ("zh-CN", "zho"),
        ("zho_Hans", "zho"),
        ("pa-PK", "pan_Arab"),
        ("sr-ME", "srp_Latn"),
        ("uz-AF", "uzb_Arab"),
        ("yue-CN", "yue_Hans"),
        ("pt-BR", "por"),
        ("es-419", "spa"),
        # codes of their own
        ("prs", "prs"),
        ("fa-AF", "prs"),  # as CLDR has it
        ("fa_Arab_AF", "prs"),
        ("fa-IR", "fas"),
        ("sw-CD", "swc"),
        ("ku-TR", "kur"),
        ("ku-IQ", "kur_Arab"),
        ("ku-Latn-IQ", "kur"),
        ("swc", "swc"),
        ("sh", "hbs"),
        ("hbs", "hbs"),
        ("cmn", "cmn"),
        # withdrawn and bibliographic codes
        ("jw", "jav"),
        ("iw", "heb"),
        ("mo", "ron"),
        ("ger", "deu"),
        ("may", "msa"),
        # extended languages, and Wikipedia's codes
        ("zh-yue", "yue"),
        ("zh-min-nan", "nan"),
        ("roa-rup", "rup"),
        # gettext
        ("sr@latin", "srp_Latn"),
        ("sr_RS.UTF-8@latin", "srp_Latn"),
        ("uz@cyrillic", "uzb_Cyrl"),
        ("de_DE@euro", "deu"),
        # names
        ("Javanese", "jav"),
        ("minangkabau", "min"),
        ("Helong", "heg"),
        ("Dari", "prs"),
        ("Malay", "msa"),
        ("Greek", "ell"),
        ("Bahasa Indonesia", "ind"),
        ("français", "fra"),
    ],
)
def test_every_spelling_of_a_language(given: str, code: str) -> None:
    assert canonical(given) == code
    assert canonical(code) == code


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("be-tarask", "'bel'"),
        ("be-x-old", "'bel'"),
        ("ca@valencia", "'cat'"),
        ("nds-nl", "gos"),
        ("Oriya", "ory"),
        ("Javenese", r"Javanese \(jav\)"),
        ("xyz", "ISO 639-3"),
        ("mul", "ISO 639-3"),
        ("Basa Jawa", "ISO 639-3"),
        ("", "ISO 639-3"),
    ],
)
def test_what_has_no_code_of_its_own_is_refused_with_a_remedy(given: str, remedy: str) -> None:
    with pytest.raises(DataError, match=remedy) as caught:
        canonical(given)
    assert repr(given) in str(caught.value)


def test_every_code_of_iso_639_3_is_its_own() -> None:
    assert len(EVERY) > 7900
    for entry in EVERY:
        assert canonical(entry.code) == entry.code
        assert not entry.alpha2 or canonical(entry.alpha2) == entry.code
        assert canonical(f"{entry.code}_{entry.script}") == entry.code


def test_canonical_is_idempotent_over_the_likely_subtags() -> None:
    seen = set()
    for short, full in LIKELY_SUBTAGS.items():
        if short.startswith("und"):
            continue
        for tag in (short, full.removesuffix("-ZZ")):
            code = canonical(tag)
            assert canonical(code) == code
            seen.add(code)
    assert {"zho_Hant", "pan_Arab", "srp_Latn", "yue_Hans"} <= seen


@given(st.sampled_from(EVERY), st.sampled_from(["Latn", "Arab", "Cyrl", "Hant", "Deva", "Java"]))
@settings(max_examples=300, deadline=None)
def test_a_script_is_kept_only_if_it_is_not_the_usual_one(entry, script: str) -> None:  # type: ignore[no-untyped-def]
    code = canonical(f"{entry.code}-{script}")
    assert code == (entry.code if script == usual_script(entry.code) else f"{entry.code}_{script}")
    assert canonical(code) == code


@given(st.text(max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_text_gives_a_stable_code_or_a_named_error(text: str) -> None:
    try:
        code = canonical(text)
    except DataError:
        return
    assert canonical(code) == code


def test_search() -> None:
    assert [entry.code for entry in find_languages("helong")] == ["heg"]
    assert find_languages("jv")[0].code == "jav"
    assert find_languages("Javanes")[0].code in {"jav", "jas", "jvn"}
    assert {"jav", "jas", "jvn", "kaw"} >= {entry.code for entry in find_languages("javanese")} >= {"jav", "jas"}
    assert find_languages("no such language at all") == []


def test_names_are_read_only_when_asked_for() -> None:
    code = (
        "import instructalign.languages as l\n"
        "l.canonical('zh-TW'); l.english_name('jav')\n"
        "print(l._registry.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize(("country", "code"), [("jp", "jpn"), ("CN", "zho"), ("vn", "vie"), ("cz", "ces")])
def test_the_code_of_a_country_is_answered_with_its_language(country: str, code: str) -> None:
    with pytest.raises(DataError, match=rf"'{country}' is not a language.*Did you mean {code} "):
        canonical(country)
