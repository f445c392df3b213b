from __future__ import annotations

import pickle
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructalign.data import Corpus
from instructalign.data.corpus import language_runs
from instructalign.errors import DataError
from instructalign.ray_data.arrow_rows import ArrowRows, write_index, write_part
from instructalign.types import Counts, ParallelRow

CODES = ["eng", "ind", "jav", "ace_Arab"]
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
ROWS = st.lists(
    st.builds(
        ParallelRow,
        st.integers(0, 30).map(str),
        st.dictionaries(st.sampled_from(CODES), TEXTS, min_size=1).map(
            lambda texts: {code: texts[code] for code in CODES if code in texts}
        ),
    ),
    max_size=30,
)


def store(folder: Path, rows: list[ParallelRow], size: int) -> ArrowRows:
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    parts = [write_part(folder / f"{number}.arrow", piece, CODES) for number, piece in enumerate(pieces)]
    write_index(folder, CODES, parts)
    return ArrowRows(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, size=st.integers(1, 9))
def test_stored_rows_are_those_put_in(tmp_path: Path, rows: list[ParallelRow], size: int) -> None:
    stored = store(tmp_path, rows, size)
    assert list(stored) == rows == [stored[i] for i in range(len(rows))] == stored[:]
    assert [list(row.texts) for row in stored] == [list(row.texts) for row in rows]
    assert list(pickle.loads(pickle.dumps(stored))) == rows
    if rows:
        assert stored[-1] == rows[-1]
        assert stored[1:7:2] == rows[1:7:2]
    for index in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match="is outside a corpus of"):
            stored[index]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, size=st.integers(1, 9), few=st.booleans())
def test_the_runs_of_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[ParallelRow], size: int, few: bool
) -> None:
    """From the index, or from the rows where there are more runs than it notes; both as the rows have them."""
    monkeypatch.setattr("instructalign.ray_data.arrow_rows._RUNS", 1 if few else 1000)
    stored = store(tmp_path, rows, size)
    spoken = [frozenset(code for code, text in row.texts.items() if text.strip()) for row in rows]
    for found in (stored.language_runs(), language_runs(rows), Corpus(stored, Counts()).language_runs()):
        assert [languages for languages, count in found for _ in range(count)] == spoken
    assert list(language_runs(rows)) == [(key, len(list(several))) for key, several in groupby(spoken)]


def test_a_folder_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no rows: rows\.json is missing"):
        ArrowRows(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not Arrow at all, but long enough to be"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    stored = store(tmp_path, [ParallelRow("1", {"eng": "one", "jav": "siji"})], 5)
    if content is None:
        (tmp_path / "0.arrow").unlink()
    else:
        (tmp_path / "0.arrow").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.arrow: these rows cannot be read .*make it again"):
        stored[0]
