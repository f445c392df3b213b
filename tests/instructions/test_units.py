from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from instructalign.errors import DataError
from instructalign.instructions.stream import Units
from instructalign.types import ParallelRow

PIVOTS, TARGETS = ["eng", "ind"], ["jav", "sun", "ind"]
ROWS = st.lists(
    st.builds(
        ParallelRow,
        st.integers(0, 99).map(str),
        st.dictionaries(st.sampled_from(["eng", "ind", "jav", "sun", "fra"]), st.sampled_from(["a", " ", ""])),
    ),
    max_size=25,
)


def written_out(rows: list[ParallelRow]) -> list[tuple[ParallelRow, str, str]]:
    """Every unit one behind the other, by the rule itself."""
    units = []
    for row in rows:
        have = {code for code, text in row.texts.items() if text.strip()}
        pairs = [(a, b) for a in PIVOTS for b in TARGETS if a != b and a in have and b in have]
        both = dict.fromkeys([*pairs, *((b, a) for a, b in pairs)])
        units += [(row, source, target) for source, target in both]
    return units


@given(ROWS)
def test_units_are_all_rows_in_all_directions(rows: list[ParallelRow]) -> None:
    expected = written_out(rows)
    try:
        units = Units(rows, PIVOTS, TARGETS)
    except DataError:
        reached = {code for _, source, target in expected for code in (source, target)}
        assert not rows or not set(TARGETS) <= reached
        return
    assert units.count == len(expected)
    assert [units[number] for number in range(units.count)] == expected
    used = sum(any(unit[0] is row for unit in expected) for row in rows)
    assert (units.counts.read, units.counts.kept) == (len(rows), used)
    assert sum(units.counts.dropped.values()) == len(rows) - used
