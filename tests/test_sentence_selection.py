"""The choice of sentences to translate next: against brute force, and from a table to a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import e
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import save_tiny
from typer.testing import CliRunner

import instructalign.sentence_selection as selection
from instructalign.cli import app
from instructalign.data import read_corpora
from instructalign.data.formats.spreadsheets import write_table
from instructalign.errors import DataError
from instructalign.sentence_selection import NgramCover, select_sentences

TEXT = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5).map(" ".join)
TEXTS = st.lists(TEXT, min_size=1, max_size=8)


def ngrams(text: str, order: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))


class Oracle:
    """What a choice is worth, by the definition: sums over sets of strings."""

    def __init__(self, texts: Sequence[str], translated: Sequence[str], order: int) -> None:
        self.weights: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            self.weights += ngrams(text, order)
        self.done = {gram for text in translated for gram in ngrams(text, order)}
        self.sets = [set(ngrams(text, order)) - self.done for text in texts]
        self.costs = [len(text.split()) for text in texts]

    def value(self, chosen: Sequence[int]) -> int:
        covered: set[tuple[str, ...]] = set().union(*(self.sets[each] for each in chosen))
        return sum(self.weights[gram] for gram in covered)

    def greedy(self, budget: int, by_cost: bool, costs: Sequence[int]) -> list[int]:
        chosen: list[int] = []
        while True:
            left = budget - sum(costs[each] for each in chosen)
            best, most = -1, 0.0
            for each in set(range(len(self.sets))) - set(chosen):
                gain = (self.value([*chosen, each]) - self.value(chosen)) / (costs[each] if by_cost else 1)
                if costs[each] <= left and (gain > most or (gain == most > 0 and each < best)):
                    best, most = each, gain
            if best < 0:
                return chosen
            chosen.append(best)

    def best(self, budget: int, costs: Sequence[int]) -> int:
        sets = (some for size in range(len(costs) + 1) for some in combinations(range(len(costs)), size))
        return max(self.value(some) for some in sets if sum(costs[each] for each in some) <= budget)


def cover_of(texts: Sequence[str], translated: Sequence[str], order: int) -> NgramCover:
    cover = NgramCover(order)
    cover.add((str(number), text, False) for number, text in enumerate(texts))
    cover.cover(translated)
    return cover


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(TEXT, max_size=2), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_is_the_naive_greedy_choice_and_near_the_best(
    texts: list[str], translated: list[str], budget: int, order: int, stale: bool
) -> None:
    oracle, ones = Oracle(texts, translated, order), [1] * len(texts)
    with pytest.MonkeyPatch.context() as patch:
        if stale:  # all are evaluated again after each that is evaluated alone
            patch.setattr(selection, "_FEW", 1)
            patch.setattr(selection, "_STALE", 0.0)
        chosen = cover_of(texts, translated, order).choose(budget)
        in_words = cover_of(texts, translated, order).choose(2 * budget, in_words=True)
    assert chosen == oracle.greedy(budget, False, ones)
    assert oracle.value(chosen) >= (1 - 1 / e) * oracle.best(budget, ones) - 1e-9
    either = [oracle.greedy(2 * budget, by_cost, oracle.costs) for by_cost in (True, False)]
    assert in_words in either
    assert oracle.value(in_words) == max(map(oracle.value, either))
    assert oracle.value(in_words) >= (1 - 1 / e) / 2 * oracle.best(2 * budget, oracle.costs) - 1e-9


def test_shares_and_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a b c d\na b c d\nx y z\nno\n" + "w " * 50 + "\n\n")
    choice = select_sentences(tmp_path / "c.txt", source="eng", target="heg", budget=9)
    assert choice.sentences == (("1", "a b c d"), ("3", "x y z"))  # the second adds nothing
    assert choice.words == 7
    assert choice.candidates == 3
    assert choice.left_out == {"empty": 1, "shorter than 3 words": 1, "longer than 40 words": 1}
    total = 2 * 7 + 5 + 1 + 50 + 49
    assert (choice.before, choice.after) == pytest.approx((0, (2 * 7 + 5) / total))
    (tmp_path / "done.txt").write_text("A b, c d!\n")
    more = select_sentences(
        tmp_path / "c.txt", source="eng", target="heg", budget=1, translated=[tmp_path / "done.txt"]
    )
    assert more.sentences == (("3", "x y z"),)
    assert more.before == pytest.approx(14 / total)


def test_a_half_translated_table_goes_on_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("No;English;Helong\n7;a b c d;Atuli\n8;a b c e;\n9;x y z;\n")
    choice = select_sentences(tmp_path / "c.csv", source="eng", target="heg", budget=1)
    assert choice.sentences == (("4", "x y z"),)  # line 4; line 3 shares most with what is translated
    assert choice.left_out == {"translated already": 1}
    with pytest.raises(DataError, match=r"c\.csv: no column is called ind.*No, English, Helong.*--column"):
        select_sentences(tmp_path / "c.csv", source="ind", target="heg", budget=1)
    named = select_sentences(tmp_path / "c.csv", source="ind", target="heg", budget=1, column="English")
    assert named.sentences == choice.sentences


def test_a_half_translated_memory_goes_on_where_it_stands(tmp_path: Path) -> None:
    """A unit in the source alone is what there is to translate."""

    def unit(**texts: str) -> str:
        return "<tu>" + "".join(f'<tuv xml:lang="{c}"><seg>{t}</seg></tuv>' for c, t in texts.items()) + "</tu>"

    units = unit(eng="a b c d", heg="atuli") + unit(eng="x y z") + unit(heg="lo")
    (tmp_path / "m.tmx").write_text(f'<tmx version="1.4"><header/><body>{units}</body></tmx>')
    choice = select_sentences(tmp_path / "m.tmx", source="eng", target="heg", budget=9)
    assert choice.sentences == (("2", "x y z"),)
    assert choice.left_out == {"translated already": 1, "no text in eng": 1}


def test_uncertainty_is_covered_by_the_most_uncertain_sentence() -> None:
    cover = cover_of(["a b", "a b", "c d"], [], 1)
    cover.weigh(np.array([0.5, 1.5, 0.9], np.float32))
    assert cover.choose(3) == [1, 2]  # 2·2·1.5, 2·0.9, and nothing


def test_a_model_prefers_what_it_is_uncertain_of(tmp_path: Path) -> None:
    model = str(save_tiny(tmp_path / "model"))
    (tmp_path / "c.txt").write_text("the food is good\nqkx zvv jjq wqq\n")
    options = {"source": "eng", "target": "heg", "budget": 1, "model": model}
    [(id, _)] = select_sentences(tmp_path / "c.txt", **options).sentences  # type: ignore[arg-type]
    assert id == "2"  # bytes of it are tokens; of the first, words are
    assert select_sentences(tmp_path / "c.txt", source="eng", target="heg", budget=1).sentences[0][0] == "1"


CELLS = ["=1+1", 'a <b> & "c"', " edges ", "ꦲꦏ꧀ꦱꦫ 🙂", "+62", "", "007", "two, words; here"]


@pytest.mark.parametrize("ending", [".xlsx", ".csv", ".tsv"])
def test_tables_are_read_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    write_table(path, [("id", "eng", "heg"), *((str(n), cell, f"h{n}") for n, cell in enumerate(CELLS))])
    if ending == ".xlsx":
        rows = list(openpyxl.load_workbook(path).active.iter_rows(values_only=True))  # type: ignore[union-attr]
        assert [str(row[1] or "") for row in rows[1:]] == CELLS
        assert openpyxl.load_workbook(path).active["B2"].data_type != "f"  # type: ignore[index]
    columns = {"eng": "eng", "heg": "heg"}
    entry = {"format": ending[1:], "path": path, "columns": columns, "id": "id", "label": "t"}
    corpus = read_corpora([entry], ["eng", "heg"])
    found = {row.id: row.texts["eng"] for row in corpus}
    assert found == {f"t/{n}": cell.strip() for n, cell in enumerate(CELLS) if cell}


def texts_of(path: Path) -> Iterator[tuple[str, ...]]:
    for row in openpyxl.load_workbook(path).active.iter_rows(values_only=True):  # type: ignore[union-attr]
        yield tuple(str(cell or "") for cell in row)


def test_command(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a b c d\nx y z\n")
    out = tmp_path / "out.xlsx"
    run = [*("select", str(tmp_path / "c.txt"), "--language", "Helong", "--out", str(out))]
    result = CliRunner().invoke(app, [*run, "--budget", "4w"])
    assert result.exit_code == 0, result.output
    assert list(texts_of(out)) == [("id", "eng", "heg"), ("1", "a b c d", "")]
    assert "wrote 1 of 2 sentences, 4 words" in result.stdout
    wrong = CliRunner().invoke(app, [*run[:-2], "--budget", "0", "--words", "9-3", "--out", "t.pdf"])
    assert wrong.exit_code != 0
    problems = getattr(wrong.exception, "problems")  # noqa: B009 (of an exception of ours)
    assert [problem.partition(":")[0] for problem in problems] == ["--budget", "--words", "--out"]
