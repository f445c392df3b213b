from __future__ import annotations

import time

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from instructalign.instructions.segmentation import segment, segment_any, words

# Sentences cut by hand, by the rules in the module's docstring.
CASES = {
    "Latin": ("Don't eat 3.5 kg of anak-anak, OK?", "Don't eat 3.5 kg of anak-anak OK"),
    "Latin with marks": ("Cafe\u0301 é l’été col·lecció", "Cafe\u0301 é l’été col·lecció"),
    "Cyrillic": ("Привет, как дела?", "Привет как дела"),
    "Arabic": ("السَّلامُ عليكم، كيف حالك؟", "السَّلامُ عليكم كيف حالك"),
    "Hebrew": ("שלום, עולם!", "שלום עולם"),
    "Devanagari": ("मैं हिन्दी बोलता हूँ।", "मैं हिन्दी बोलता हूँ"),
    "Tamil": ("நான் தமிழ் பேசுகிறேன்.", "நான் தமிழ் பேசுகிறேன்"),
    "Ethiopic": ("ሰላም፡ ዓለም።", "ሰላም ዓለም"),
    "Korean": ("나는 학교에 간다.", "나는 학교에 간다"),
    "Chinese": ("我喜欢GPT-4，很好。", "我 喜 欢 GPT 4 很 好"),
    "Japanese": ("日本語のテスト", "日 本 語 の テスト"),
    "Thai": ("เขาไปกับนี้ ๑๒", "เขา ไป กั บ นี้ ๑๒"),
    "Lao": ("ພາສາເຂົ້າ", "ພາ ສາ ເຂົ້າ"),
    "Khmer": ("ខ្ញុំស្រឡាញ់ភាសាខ្មែរ។", "ខ្ញុំ ស្រ ឡា ញ់ ភា សា ខ្មែ រ"),
    "Myanmar": ("မြန်မာဘာသာ စကား", "မြန် မာ ဘာ သာ စ ကား"),
    "Javanese": ("ꦱꦸꦒꦼꦁꦫꦮꦸꦃ꧈ꦏꦤ꧀ꦠꦺꦴ", "ꦱꦸ ꦒꦼꦁ ꦫ ꦮꦸꦃ ꦏ ꦤ꧀ꦠꦺꦴ"),
    "Balinese": ("ᬅᬓ᭄ᬱᬭᬩᬮᬶ᭞", "ᬅ ᬓ᭄ᬱ ᬭ ᬩ ᬮᬶ"),
    "Sundanese": ("ᮃᮊ᮪ᮞᮛ ᮞᮥᮔ᮪ᮓ", "ᮃᮊ᮪ᮞᮛ ᮞᮥᮔ᮪ᮓ"),
    "Buginese": ("ᨒᨚᨈᨑ ᨕᨘᨁᨗ᨞", "ᨒᨚᨈᨑ ᨕᨘᨁᨗ"),
    "Persian with joiners": ("می\u200cروم، کتاب\u200cها", "می\u200cروم کتاب\u200cها"),
    "Uzbek in quotation marks": ("‘O‘zbek’ to`g‘ri yoʻl", "O‘zbek to`g‘ri yoʻl"),
    "Hawaiian": ("Ka ʻōlelo Hawai‘i", "Ka ʻōlelo Hawai‘i"),
    "Tlapanec": ("naꞌni xuge\u02bcje", "naꞌni xuge\u02bcje"),
    "soft hyphens": ("pa\xaddha do\xadla\xadnan \xad", "pa\xaddha do\xadla\xadnan"),
    "joined by a word joiner": ("re\u2060do it\ufeffs", "re\u2060do it\ufeffs"),
    "Hebrew abbreviations": ("צה״ל ג׳ירפה", "צה״ל ג׳ירפה"),
    "Tibetan": ("བོད་སྐད།", "བོད སྐད"),
    "Bengali conjuncts": ("ক্ষমা করো।", "ক্ষমা করো"),
    "mixed": ("Saya学生นะ ជាBTS-2", "Saya 学 生 นะ ជា BTS 2"),
    "emoji": ("ok 👨‍👩‍👧 ya", "ok ya"),
    "nothing": ("", ""),
    "no word": ("?! …", ""),
}

SCRIPTS = st.one_of(
    st.text(),
    st.text(st.characters(max_codepoint=0x24F)),
    *(
        st.text(st.characters(min_codepoint=low, max_codepoint=high))
        for low, high in (
            (0x0590, 0x06FF),  # Hebrew, Arabic
            (0x0900, 0x0DFF),  # Devanagari to Sinhala
            (0x0E00, 0x109F),  # Thai to Myanmar
            (0x1780, 0x1CFF),  # Khmer to Sundanese, Balinese
            (0x200B, 0x2060),  # joiners, directional marks
            (0x3000, 0x30FF),
            (0xA960, 0xAA7F),  # Javanese, Myanmar extended
            (0x1F1E6, 0x1F64F),  # flags, emoji
        )
    ),
    st.text("aé3'-., _\u0301\u200d\u0600©ℹ🇮🇩เกาက်ꦏ꧀漢", max_size=12),
)


@pytest.mark.parametrize("script", CASES)
def test_words_of_each_script(script: str) -> None:
    text, expected = CASES[script]
    assert words(text) == expected.split()


@given(SCRIPTS)
@example("©\u200dℹ")
@example("\u0600١٢")
@example("\r\n\u0301a")
def test_pieces_join_to_the_text_and_never_cut_a_grapheme(text: str) -> None:
    pieces = segment(text)
    assert "".join(pieces) == text
    assert len(pieces) % 2 == 1
    assert all(pieces[1::2])
    cuts, at = set(), 0
    for piece in pieces:
        at += len(piece)
        cuts.add(at)
    starts = {match.start() for match in regex.finditer(r"\X", text)} | {0, len(text)}
    assert cuts <= starts


@given(SCRIPTS)
def test_the_short_cut_gives_the_same(text: str) -> None:
    assert segment(text) == segment_any(text)


@given(SCRIPTS)
def test_every_letter_is_in_a_word_unless_it_hangs_on_something_else(text: str) -> None:
    rest = "".join(segment(text)[::2])
    graphemes = regex.findall(r"\X", rest)
    assert not [g for g in graphemes if regex.match(r"\p{Grapheme_Cluster_Break=Prepend}*[\p{L}\p{N}]", g)]


@pytest.mark.parametrize(
    "text", ["kata-" * 50_000, "!" * 300_000 + "\u0301", "क" * 200_000, "क-" * 100_000, "เ" * 100_000]
)
def test_a_monstrous_line_is_cut_in_linear_time(text: str) -> None:
    start = time.process_time()
    assert "".join(segment(text)) == text
    assert time.process_time() - start < 5
