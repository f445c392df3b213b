"""From run folders to a report: tables, a page, and the rows behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from instructalign.errors import RunFolderError
from instructalign.files import write_json, write_text
from instructalign.report.rendering import ReportTable
from instructalign.report.tables import main_table
from instructalign.types import Score

__all__ = ["Report", "main_table", "write_report"]

SUFFIXES = (".html", ".md", ".json")


@dataclass(frozen=True, slots=True)
class Report:
    """A written report.

    Attributes:
        html, markdown, json: the three files.
        rows: every number in it, as in the JSON file.
        sentences: the result in words, the best run first.
        table: the main table, for a terminal.
    """

    html: Path
    markdown: Path
    json: Path
    rows: tuple[Score, ...]
    sentences: tuple[str, ...]
    table: ReportTable


def write_report(folders: Sequence[str | Path], out: str | Path | None = None) -> Report:
    """Writes `report.html`, `report.md` and `report.json` on one or more runs.

    The files depend on the run folders alone: the same folders give the same bytes.

    Args:
        folders: run folders, in the order in which the runs are to stand. Runs that share a base share its
            row. Files of an earlier report among them are passed over.
        out: a folder to write to, or a file whose name the three files take. Without it, a single run's own
            folder, or the folder that holds all of the runs.

    Raises:
        RunFolderError: a folder is no run's, nothing was evaluated or trained yet, or there is no telling where to
            write.
        DataError: a file in a folder cannot be read.
    """
    from instructalign.report.run_report import build_run_report
    from instructalign.report.sweep_report import build_sweep_report
    from instructalign.report.sweep_results import SWEEP_FILE

    # `report runs/*` also names the files of an earlier report among the runs.
    runs = [f for f in map(Path, folders) if not (f.is_file() and f.suffix in SUFFIXES)]
    is_sweep = len(runs) == 1 and (runs[0] / SWEEP_FILE).exists()
    built = build_sweep_report(runs[0]) if is_sweep else build_run_report(runs)
    page, markdown, data = _places(runs, None if out is None else Path(out))
    write_text(page, built.page)
    write_text(markdown, built.markdown)
    write_json(data, {**built.about, "rows": [asdict(row) for row in built.rows]})
    return Report(page, markdown, data, tuple(built.rows), tuple(built.sentences), built.table)


def _places(folders: Sequence[Path], out: Path | None) -> tuple[Path, Path, Path]:
    """Where the three files go."""
    if out is None:
        parents = {folder.resolve().parent for folder in folders}
        if len(folders) > 1 and len(parents) > 1:
            raise RunFolderError(
                "the runs lie in different folders, so there is no telling where the report belongs: "
                "say it with --out, for example --out comparison.html"
            )
        out = folders[0] if len(folders) == 1 else parents.pop()
    stem = out.with_suffix("") if out.suffix in SUFFIXES else out / "report"
    if out.suffix in SUFFIXES and out.is_dir():
        raise RunFolderError(f"{out} is a folder, but its name is that of a file: give another name with --out")
    page, markdown, data = (stem.parent / f"{stem.name}{suffix}" for suffix in SUFFIXES)
    return page, markdown, data
