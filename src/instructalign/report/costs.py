"""What the ways against forgetting took: time, memory, disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instructalign.report.outcome import Facts
from instructalign.report.rendering import ReportTable, Section, TableCell, TableColumn, text_column

COUNTS = {
    "frozen": "{:,.0f} weights kept as they were",
    "projected": "{:,.0f} steps projected",
    "examples": "{:,.0f} predictions of the base cached",
}
COLUMNS = (
    text_column("Run"),
    text_column("Strategy"),
    TableColumn("Time", "share of training"),
    TableColumn("Memory", "a process"),
    TableColumn("Disk"),
    text_column("What it did"),
)


def strategies(facts: Facts) -> Section | None:
    """A line for each strategy that took anything, by run."""
    rows = []
    for run in facts.runs:
        whole = _number(run.record.get("timings"), "training_seconds")
        taken = run.record.get("strategies")
        for name, cost in (taken if isinstance(taken, Mapping) else {}).items():
            if isinstance(cost, Mapping) and any(_number(cost, key) for key in cost):
                rows.append(_row(run.name, str(name), cost, whole))
    if not rows:
        return None
    text = (
        "What each strategy took: time before and beside the steps themselves, without its share of the backward "
        "pass; what it held in memory; what it wrote."
    )
    return Section("What keeping took", "costs", (ReportTable(text, COLUMNS, tuple(rows)),))


def _row(run: str, name: str, cost: Mapping[str, Any], whole: float) -> tuple[TableCell, ...]:
    seconds = _number(cost, "seconds")
    did = [text.format(_number(cost, key)) for key, text in COUNTS.items() if key in cost]
    return (
        TableCell(run, foreign=True),
        TableCell(name),
        TableCell(f"{seconds:,.1f} s", f"{100 * seconds / whole:.0f} %" if whole else ""),
        TableCell(size(_number(cost, "memory"))),
        TableCell(size(_number(cost, "disk"))),
        TableCell("; ".join(did)),
    )


def size(count: float) -> str:
    """Bytes as people read them; a dash for none."""
    if not count:
        return "–"
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.0f} {units[0]}" if count >= 10 or units[0] == "B" else f"{count:.1f} {units[0]}"


def _number(block: Any, key: str) -> float:
    value = block.get(key) if isinstance(block, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
