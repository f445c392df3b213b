"""The report for a paper: rectangular LaTeX, bold where the page has it; CSV that reads back."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from instructalign.errors import RunFolderError
from instructalign.report import write_report
from instructalign.report.paper_tables import latex_tables, rows_as_csv
from instructalign.report.rendering import ReportTable, Section, TableCell, TableColumn, text_column
from instructalign.types import Score


def cells(line: str) -> list[str]:
    assert line.endswith(r" \\")
    return re.split(r"(?<!\\)&", line.removesuffix(r" \\"))


def test_a_table_is_rectangular_and_escaped() -> None:
    columns = (text_column("Run"), TableColumn("L2", "new"), TableColumn("p"))
    rows = (
        (TableCell("50%_a & b\\c"), TableCell("−1.5", "−2.0 to −1.0\nSD 0.1", best=True), TableCell("<0.01")),
        (TableCell("{x}"), TableCell("–"), TableCell("")),
    )
    table = ReportTable("Δ × 100 #1 ~ ^", columns, rows)
    text = latex_tables([Section("Result", "result", [table])], {"a": {"seed": "1"}, "b": {"seed": "2"}})
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(cells(line)) for line in lines] == [3] * 5
    assert lines[2] == r"50\%\_a \& b\textbackslash{}c & \textbf{$-$1.5} & \textless{}0.01 \\"
    assert r"{\scriptsize $-$2.0 to $-$1.0, SD 0.1}" in lines[3]
    assert r"\caption{Δ $\times$ 100 \#1 \textasciitilde{} \textasciicircum{}}" in text
    assert r"\texttt{seed} & 1 & 2 \\" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 3


def test_csv_reads_back_exactly() -> None:
    row = Score('a,"b"', "t", "jav", "L2", "f1_weighted", 1 / 3, None, 0.5, 7, {"task": "t", "n": 7})
    [found] = csv.DictReader(io.StringIO(rows_as_csv([row])))
    assert (found["run"], float(found["value"]), found["low"], found["n"]) == ('a,"b"', 1 / 3, "", "7")
    assert found["signature"] == "task:t|n:7"


def test_report_writes_them_beside(run_folder: Path) -> None:
    report = write_report([run_folder], run_folder / "paper.tex")
    assert [path.name for path in report.more] == ["paper.tex"]
    assert (run_folder / "paper.html").is_file()
    text = (run_folder / "paper.tex").read_text(encoding="utf-8")
    assert r"\begin{tabular}" in text
    assert r"\texttt{model.base}" in text
    rows = json.loads((run_folder / "paper.json").read_text(encoding="utf-8"))["rows"]
    more = write_report([run_folder], forms=["csv"]).more
    assert len(list(csv.reader(io.StringIO(more[0].read_text(encoding="utf-8"))))) == len(rows) + 1
    (run_folder / "x.csv").mkdir()
    with pytest.raises(RunFolderError, match=r"x\.csv"):
        write_report([run_folder], run_folder / "x.csv")
