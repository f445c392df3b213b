"""Test items in the training data: which scores they spoil, and the section that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instructalign.data.contamination import OVERLAP_KINDS, SEVERE_SHARE
from instructalign.report.number_format import shorten
from instructalign.report.rendering import (
    Block,
    Fold,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    text_column,
)
from instructalign.report.run_results import RunResults

if TYPE_CHECKING:
    from instructalign.report.outcome import Facts

_LONGEST = 160  # characters shown of an item's text


def spoilt(runs: Sequence[RunResults], label: Callable[[str], str]) -> list[str]:
    """A sentence for each run and kind of data that was trained on a good part of a test set."""
    sentences = []
    for run in runs:
        found = _found(run)
        if found.get("action") == "drop":
            continue
        counted = [(each, each["exact"] + each["near"]) for each in found.get("leaked", ())]
        for where in ("corpora", "replay"):
            sets = [
                f"{each['task']} in {label(each['language'])} ({count} of {each['size']} items)"
                for each, count in counted
                if each["where"] == where and count >= SEVERE_SHARE * each["size"]
            ]
            if sets:
                more = f" and {len(sets) - 3} more" if len(sets) > 3 else ""
                sentences.append(
                    f"{run.name} was trained on test items, which stand in its {where}: "
                    f"{', '.join(sets[:3])}{more}. Its scores there are not zero-shot; contamination: drop leaves "
                    "these items out."
                )
    return sentences


def contamination(facts: Facts) -> Section | None:
    """What of the test sets was found in the training data of each run, and what was done about it."""
    blocks: list[Block] = [Paragraph(sentence) for run in facts.runs for sentence in _in_words(run)]
    if not blocks:
        return None
    rows = [
        (TableCell(run.name, foreign=True), *cells) for run in facts.runs for cells in _rows(facts, _found(run))
    ]
    if rows:
        columns = [*("Run", "In", "Task", "Language"), *("Items", "Found", "Exact", "Near", "Id")]
        headings = tuple(TableColumn(title, numeric=place > 3) for place, title in enumerate(columns))
        caption = (
            "Items found in the training data: with all their words, with eight tenths of them (runs of five "
            "characters), or by their id alone."
        )
        blocks.append(ReportTable(caption, headings, tuple(rows)))
        blocks.append(Fold("Examples of test items in the training data", (_examples(facts),)))
    return Section("Test items in the training data", "contamination", blocks)


def _in_words(run: RunResults) -> Iterator[str]:
    found = _found(run)
    if not found:
        return
    if reason := found.get("not_checked"):
        yield f"{run.name}: not looked for; {reason}."
        return
    looked = f"{run.name}: {found['texts']:,} test texts, {sum(found['checked'].values()):,} training rows; "
    if not found["leaked"]:
        yield f"{looked}none found."
        return
    dropped = sum(found["dropped"].values())
    done = {"drop": f"{dropped:,} rows were dropped", "report": "all rows were trained on"}[found["action"]]
    yield f"{looked}found in {len(found['leaked'])} test sets; {done}."


def _rows(facts: Facts, found: Mapping[str, Any]) -> Iterator[tuple[TableCell, ...]]:
    for each in found.get("leaked", ()):
        numbers = (each["size"], each["items"], *(each[how] for how in OVERLAP_KINDS))
        names = (each["where"], each["task"], facts.label(each["language"]))
        yield (*map(TableCell, names), *(TableCell(f"{number:,}") for number in numbers))


def _examples(facts: Facts) -> ReportTable:
    rows = dict.fromkeys(
        (each["task"], facts.label(each["language"]), one["item"], one["how"], one["row"], one["text"])
        for run in facts.runs
        for each in _found(run).get("leaked", ())
        for one in each["examples"]
    )
    columns = tuple(
        text_column(title, wide=title == "Text")
        for title in ("Task", "Language", "Item", "How", "Training row", "Text")
    )
    lines = tuple(
        tuple(TableCell(shorten(str(cell), _LONGEST), foreign=place > 1) for place, cell in enumerate(row))
        for row in rows
    )
    return ReportTable("The first items of each test set, and the training rows that have them.", columns, lines)


def _found(run: RunResults) -> Mapping[str, Any]:
    found = run.record.get("contamination")
    return found if isinstance(found, Mapping) else {}
