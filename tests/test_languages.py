from __future__ import annotations

import pytest

from instructalign.languages import canonical, english_name, name_in


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
    ],
)
def test_codes_and_names(given: str, code: str, english: str, indonesian: str) -> None:
    assert canonical(given) == code
    assert english_name(code) == english
    assert name_in(code, "ind") == indonesian
