"""The objectives on words: alignment, cloze, code-switching, dictionary and hints."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from scipy.stats import binomtest

from instructalign.config import Config, Entry, InstructionsConfig, LanguagesConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.instructions import InstructionStream, generate_instructions
from instructalign.instructions.segmentation import words
from instructalign.types import Instruction, ParallelRow

LEXICON = {f"kata{i}": f"tembung{i}" for i in range(40)}
LANGUAGES = LanguagesConfig(known=["ind"], new=["jav"])


def corpus(count: int = 200) -> list[ParallelRow]:
    draw = random.Random(1)
    rows = []
    for number in range(count):
        chosen = draw.sample(list(LEXICON), 6)
        there = [LEXICON[word] for word in draw.sample(chosen, 6)]
        rows.append(
            ParallelRow(f"r{number}", {"ind": " ".join(chosen).capitalize() + ".", "jav": " ".join(there) + "!"})
        )
    return rows


def make(objective: str, count: int, **options: object) -> list[tuple[Instruction, Mapping[str, str]]]:
    rows = corpus()
    texts = {row.id: row.texts for row in rows}
    config = InstructionsConfig(objectives={objective: Entry(name=objective, options=options)})
    stream = InstructionStream(rows, config, LANGUAGES, ["ind"], 3)
    return [(made, texts[made.row]) for made in generate_instructions(stream, count)]


def translate(word: str) -> str:
    """The true translation of a word of the made-up pair, in either direction."""
    back = {there: here for here, there in LEXICON.items()}
    return {**LEXICON, **back}[word.casefold()]


def quoted(prompt: str, texts: Mapping[str, str]) -> list[str]:
    """The words of the made-up languages that a prompt has beside the two sentences."""
    for text in texts.values():
        prompt = prompt.replace(text, "")
    return [word for word in words(prompt) if word.casefold().startswith(("kata", "tembung"))]


def test_align_asks_about_true_and_swapped_pairs_alike_often() -> None:
    made = make("align", 2000)
    yes = 0
    for instruction, texts in made:
        word, candidate = sorted(
            quoted(instruction.prompt, texts),
            key=lambda w: w.casefold() not in words(texts[instruction.source].casefold()),
        )
        assert (translate(word) == candidate.casefold()) == (instruction.answer == "yes")
        yes += instruction.answer == "yes"
    assert binomtest(yes, len(made), 0.5).pvalue > 1e-4


def test_cloze_asks_for_the_word_that_was_taken_out() -> None:
    for instruction, texts in make("cloze", 300):
        assert instruction.answer in words(texts[instruction.target])
        gapped = re.sub(rf"\b{instruction.answer}\b", "___", texts[instruction.target])
        assert gapped in instruction.prompt
        assert texts[instruction.source] in instruction.prompt


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_code_switching_replaces_words_by_their_translations(share: float) -> None:
    replaced = total = 0
    for instruction, texts in make("codeswitch", 300, share=share):
        assert instruction.answer == texts[instruction.target]
        mixed = quoted(instruction.prompt, {})
        source = words(texts[instruction.source])
        changed = [(a, b) for a, b in zip(source, mixed, strict=True) if a != b]
        assert changed
        assert all(translate(a) == b.casefold() for a, b in changed)
        replaced += len(changed)
        total += len(source)
    if share == 0:
        assert replaced == 300
    elif share == 1:
        assert replaced / total > 0.95
    else:
        assert 0.25 < replaced / total < 0.4


def lexicon_entry(folder: Path, text: str = "") -> Entry:
    path = folder / "lexicon.tsv"
    lines = [f"{here}\t{there}" for here, there in list(LEXICON.items())[:20]]
    path.write_text(text or "\n".join([*lines, "kata0\tlain"]), encoding="utf-8")
    return Entry(name="tsv", options={"path": path, "columns": {"ind": 1, "jav": 2}, "header": False})


def test_dictionary_asks_for_words_of_the_lexicon(tmp_path: Path) -> None:
    seen = set()
    for instruction, _ in make("dictionary", 600, lexicons=[lexicon_entry(tmp_path)]):
        (word,) = [w for w in words(instruction.prompt) if w.startswith(("kata", "tembung", "lain"))][:1]
        seen.add((word, instruction.answer))
    assert {("kata0", "tembung0"), ("kata0", "lain"), ("lain", "kata0"), ("tembung7", "kata7")} <= seen
    assert len({word for word, _ in seen}) == 41


def test_hints_come_from_the_lexicon_and_fit_the_translation(tmp_path: Path) -> None:
    for instruction, texts in make("hints", 300, lexicons=[lexicon_entry(tmp_path)], most=2):
        assert instruction.answer == texts[instruction.target]
        assert texts[instruction.source] in instruction.prompt
        hints = quoted(instruction.prompt, texts)
        assert len(hints) in (2, 4)
        for word, hint in zip(hints[::2], hints[1::2], strict=True):
            assert translate(word) == hint


def test_lexicons_that_do_not_help(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^hints .* 200 "):
        make("hints", 1, lexicons=[lexicon_entry(tmp_path, "rumah\tomah")])
    entry = lexicon_entry(tmp_path)
    with pytest.raises(DataError, match="at least two of the configured languages"):
        make(
            "dictionary",
            1,
            lexicons=[Entry(name="tsv", options={**entry.options, "columns": {"ind": 1, "sun": 2}})],
        )


def config(folder: Path, lexicons: object) -> Config:
    return build_config(
        {
            "model": {"base": "x"},
            "languages": {"known": ["ind"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": "a.tsv"}],
            "instructions": {"objectives": {"dictionary": {"weight": 2, "lexicons": lexicons}}},
            "training": {"steps": 1},
        },
        folder=folder,
    )


def test_lexicons_in_a_configuration(tmp_path: Path) -> None:
    read = config(
        tmp_path, [{"format": "csv", "path": "lex.csv", "columns": {"ind": "indonesian", "jav": "javanese"}}]
    )
    entry = read.instructions.objectives["dictionary"].options["lexicons"][0]
    assert entry.name == "csv"
    assert entry.options["path"] == tmp_path.resolve() / "lex.csv"
    written = yaml.safe_load(read.to_yaml())["instructions"]["objectives"]["dictionary"]
    again = config(Path(), written["lexicons"])
    assert again.instructions == read.instructions
    assert written["weight"] == 2


@pytest.mark.parametrize(
    ("lexicons", "message"),
    [
        (None, "instructions.objectives.dictionary.lexicons"),
        ([], "instructions.objectives.dictionary.lexicons"),
        ([{"path": "a"}], "lexicons.0: needs a format"),
        ([{"format": "csw", "path": "a"}], "Did you mean 'csv'?"),
        ([{"format": "csv"}], "dictionary.lexicons.0.path: missing"),
        (
            [{"format": "csv", "path": "a", "collumns": {}}],
            "lexicons.0.collumns: unknown key. ",
        ),
        (["a.csv"], "instructions.objectives.dictionary.lexicons.0"),
    ],
)
def test_wrong_lexicons_are_refused(tmp_path: Path, lexicons: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, lexicons)
    assert message in str(error.value)


def test_the_order_of_sets_decides_nothing() -> None:
    """Python hashes strings differently in each process unless told otherwise."""
    names = ("align", "codeswitch", "cloze")
    code = f"from {Path(__file__).stem} import make\nfor name in {names}: print([i for i, _ in make(name, 60)])"
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": places},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert output.splitlines() == [repr([i for i, _ in make(name, 60)]) for name in names]
