"""The report for a paper: its tables in LaTeX (booktabs), hyperparameters as an appendix; every number as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from instructalign.evaluation.score_table import signature_text
from instructalign.report.rendering import Block, Fold, Panels, ReportTable, Section, TableCell
from instructalign.types import Score

_SECTIONS = (
    "result",
    "stages",
    "heat-map",
    "languages",
    "carried-over",
    "prompts",
    "translations",
    "best",
    "grid",
)
_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{"−": "$-$", "→": r"$\to$", "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$"},
        **{"–": "--", "—": "---", "…": r"\ldots{}", "\u00a0": "~", "<": r"\textless{}", ">": r"\textgreater{}"},
    }
)
_PREAMBLE = r"""% Written by instructalign. In the preamble: \usepackage{booktabs,longtable}
% Bold: the best of its column by the paired test. Small, below a number: its interval, or what its caption says.
"""


def latex_tables(sections: Sequence[Section], hyperparameters: Mapping[str, Mapping[str, str]]) -> str:
    """The tables of results, each a `table`, and the hyperparameters of each run as a `longtable`.

    Tables of sentences and of data preparation are left out: they are for the page.

    Args:
        sections: the report's.
        hyperparameters: by run, value by key path.
    """
    parts = [_PREAMBLE]
    for section in sections:
        for table in _tables(section.blocks) if section.anchor in _SECTIONS else ():
            if not any(column.wide for column in table.columns):
                parts.append(f"% {section.title}\n{_table(table)}")
    if hyperparameters:
        parts.append(_appendix(hyperparameters))
    return "\n".join(parts)


def rows_as_csv(rows: Iterable[Score]) -> str:
    """Every number of a report, one a line; the signature as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "task", "language", "group", "metric", "value", "low", "high", "n", "signature"])
    for row in rows:
        numbers = ["" if value is None else repr(value) for value in (row.value, row.low, row.high)]
        names = (row.run, row.task, row.language, row.group, row.metric)
        writer.writerow([*names, *numbers, row.n, signature_text(row.signature)])
    return text.getvalue()


def _tables(blocks: Iterable[Block]) -> Iterator[ReportTable]:
    for block in blocks:
        if isinstance(block, ReportTable):
            yield block
        elif isinstance(block, Fold):
            yield from _tables(block.blocks)
        elif isinstance(block, Panels):
            yield from (item for item in block.items if isinstance(item, ReportTable))


def _table(table: ReportTable) -> str:
    columns = "".join("r" if column.numeric else "l" for column in table.columns)
    heads = [[column.title for column in table.columns], [column.note for column in table.columns]]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *(_line(map(_tex if number == 0 else _small, head)) for number, head in enumerate(heads) if any(head)),
        r"\midrule",
    ]
    for row in table.rows:
        lines.append(_line(map(_cell, row)))
        if any(cell.note for cell in row):
            lines.append(_line(_small(cell.note.replace("\n", ", ")) for cell in row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _appendix(hyperparameters: Mapping[str, Mapping[str, str]]) -> str:
    """What all runs set, and by run what they set differently."""
    keys = dict.fromkeys(key for found in hyperparameters.values() for key in found)
    heads = ["Key", *hyperparameters] if len(hyperparameters) > 1 else ["Key", "Value"]
    lines = [rf"\begin{{longtable}}{{l{'l' * len(hyperparameters)}}}"]
    lines += [r"\caption{Hyperparameters.}\\", r"\toprule", _line(map(_tex, heads)), r"\midrule", r"\endhead"]
    for key in keys:
        values = [found.get(key, "–") for found in hyperparameters.values()]
        lines.append(_line([rf"\texttt{{{_tex(key)}}}", *map(_tex, values)]))
    return "\n".join(["% Appendix", *lines, r"\bottomrule", r"\end{longtable}", ""])


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(cell: TableCell) -> str:
    return rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text)


def _small(text: str) -> str:
    return rf"{{\scriptsize {_tex(text)}}}" if text else ""


def _tex(text: str) -> str:
    return " ".join(text.split("\n")).translate(_TEX)
