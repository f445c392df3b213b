"""Writes the report on run folders or a sweep: an HTML page, Markdown, and the rows as JSON.

Imports are lazy: `instructalign validate` and the command line's help load this module, but no numeric library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instructalign.errors import RunFolderError
from instructalign.files import write_json, write_text
from instructalign.notebooks import html_table
from instructalign.types import Score

if TYPE_CHECKING:
    from instructalign.report.rendering import ReportTable

_SUFFIXES = (".html", ".md", ".json")
PaperForm = Literal["latex", "csv"]
_PAPER_SUFFIXES: dict[str, PaperForm] = {".tex": "latex", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class Report:
    """A written report.

    Attributes:
        html, markdown, json: the three files.
        rows: every number in it, as in the JSON file.
        sentences: the result in words, the best run first.
        table: the main table, for a terminal.
        more: further files that were asked for.
    """

    html: Path
    markdown: Path
    json: Path
    rows: tuple[Score, ...]
    sentences: tuple[str, ...]
    table: ReportTable
    more: tuple[Path, ...] = ()

    def _repr_html_(self) -> str:
        columns = [f"{column.title}\n{column.note}".strip() for column in self.table.columns]
        rows = [[f"{cell.text}\n{cell.note}".strip() for cell in row] for row in self.table.rows]
        words = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences)
        return words + html_table(columns, rows, self.table.caption)


def write_report(
    folders: Sequence[str | Path], out: str | Path | None = None, *, forms: Sequence[PaperForm] = ()
) -> Report:
    """Writes `report.html`, `report.md` and `report.json` on one or more runs.

    The files depend on the run folders alone: the same folders give the same bytes.

    Args:
        folders: run folders, in the order in which the report shows them, or one sweep's folder. Runs that share a
            base share its row. Files of an earlier report among them are skipped.
        out: a folder to write to, or a file whose name the three files take. Default: a single run's own folder,
            or the folder that contains all of the runs.
        forms: what to write besides: `latex` (tables of a paper, `.tex`), `csv` (every number).

    Raises:
        RunFolderError: a folder is not a run's, nothing was evaluated or trained yet, or it is unclear where to
            write.
        DataError: a file in a folder cannot be read.
    """
    from instructalign.report.paper_tables import latex_tables, rows_as_csv
    from instructalign.report.run_report import build_run_report
    from instructalign.report.sweep_report import build_sweep_report
    from instructalign.report.sweep_results import SWEEP_FILE

    # `report runs/*` also names the files of an earlier report among the runs.
    runs = [f for f in map(Path, folders) if not (f.is_file() and f.suffix in (*_SUFFIXES, *_PAPER_SUFFIXES))]
    if out is not None and (asked := _PAPER_SUFFIXES.get(Path(out).suffix)):
        forms = [*forms, asked]
    is_sweep = len(runs) == 1 and (runs[0] / SWEEP_FILE).exists()
    built = build_sweep_report(runs[0]) if is_sweep else build_run_report(runs)
    page, markdown, data = _places(runs, None if out is None else Path(out))
    write_text(page, built.page)
    write_text(markdown, built.markdown)
    write_json(data, {**built.about, "rows": [asdict(row) for row in built.rows]})
    texts = {
        "latex": lambda: latex_tables(built.sections, built.hyperparameters),
        "csv": lambda: rows_as_csv(built.rows),
    }
    more = [(page.with_suffix(suffix), form) for suffix, form in _PAPER_SUFFIXES.items() if form in forms]
    for path, form in more:
        write_text(path, texts[form]())
    files = tuple(path for path, _ in more)
    return Report(page, markdown, data, tuple(built.rows), tuple(built.sentences), built.table, files)


def _places(folders: Sequence[Path], out: Path | None) -> tuple[Path, Path, Path]:
    """Where the three files go."""
    if out is None:
        parents = {folder.resolve().parent for folder in folders}
        if len(folders) > 1 and len(parents) > 1:
            raise RunFolderError(
                "the runs are in different folders, so it is unclear where to write the report: "
                "choose a place with --out, for example --out comparison.html"
            )
        out = folders[0] if len(folders) == 1 else parents.pop()
    named = out.suffix in (*_SUFFIXES, *_PAPER_SUFFIXES)
    stem = out.with_suffix("") if named else out / "report"
    if named and out.is_dir():
        raise RunFolderError(f"{out} is a folder, but its name is that of a file: choose another name with --out")
    page, markdown, data = (stem.parent / f"{stem.name}{suffix}" for suffix in _SUFFIXES)
    return page, markdown, data
