"""The sections that say how the result was made: training, data, what was dropped, how to do it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instructalign.evaluation.score_table import headline, signature_text
from instructalign.report.outcome import Facts
from instructalign.report.plots import PlotLine, line_plot, stacked_shares
from instructalign.report.rendering import (
    Block,
    Code,
    Fold,
    Panels,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    text_column,
)
from instructalign.report.run_results import RunResults
from instructalign.report.tables import unique

UNITS = {"rows": "rows", "tokens": "tokens", "loss_tokens": "loss tokens"}
DROPS = ("corpus", "replay", "encoding")  # blocks of run.json that count what was read and dropped


def training(facts: Facts) -> Section | None:
    """Training curves, a panel for each run."""
    drawn = [(run.name, curves) for run in facts.runs if (curves := _curves(run))]
    if not drawn:
        return None
    values = [value for _, curves in drawn for curve in curves for value in curve.y]
    limits = (_floor(values), _ceiling(values))
    text = (
        "Loss in nats per counted token: all of training strong, single objectives and held-out instructions thin."
    )
    panels = tuple(
        line_plot(name, curves, x="step", limits=limits, note=f"Training curves, {name}") for name, curves in drawn
    )
    early = [
        Paragraph(f"training ended early: {reason}.", name=run.name)
        for run in facts.runs
        if (reason := _early(run))
    ]
    gauges = [made for make in (_drift, _probes) if (made := make(facts)) is not None]
    return Section("Training", "training", (Panels(panels, text), *gauges, *early))


def _early(run: RunResults) -> str:
    """Why a run ended before its last step."""
    return str(_block(run.record, "early_stopping").get("reason") or "")


def _drift(facts: Facts) -> Panels | None:
    """How far each run went from its base while it trained."""
    drawn = [(run.name, curve) for run in facts.runs if (curve := _series(run, "kl_to_base", "KL", strong=True))]
    if not drawn:
        return None
    limits = (0.0, _ceiling([value for _, curve in drawn for value in curve.y]))
    text = "KL divergence of the base from the model on held-out text in known languages, in nats per token."
    panels = (
        line_plot(name, [curve], x="step", limits=limits, note=f"KL to the base, {name}") for name, curve in drawn
    )
    return Panels(tuple(panels), text)


def _probes(facts: Facts) -> Panels | None:
    """Zero-shot accuracy on a few items while each run trained."""
    drawn = [
        (run.name, curves)
        for run in facts.runs
        if (curves := [each for group in ("L1", "L2") if (each := _series(run, f"probe/{group}", group, 100.0))])
    ]
    if not drawn:
        return None
    text = "Zero-shot accuracy on a few items while it trained, percent: known languages (L1) and new ones (L2)."
    panels = (
        line_plot(name, curves, x="step", limits=(0.0, 100.0), note=f"Zero-shot probe, {name}")
        for name, curves in drawn
    )
    return Panels(tuple(panels), text)


def _curves(run: RunResults) -> list[PlotLine]:
    names = [
        name
        for name in unique(key for line in run.log for key in line)
        if name == "loss" or name.startswith("loss/") or name == "heldout_loss"
    ]
    labels = {"loss": "all", "heldout_loss": "held out"}
    found = (
        _series(run, name, labels.get(name, name.removeprefix("loss/")), strong=name == "loss") for name in names
    )
    return [series for series in found if series is not None]


def _series(
    run: RunResults, name: str, label: str, factor: float = 1.0, *, strong: bool = False
) -> PlotLine | None:
    """One number of a run's log over its steps; None where it stands in fewer than two lines."""
    points = [(line["step"], factor * line[name]) for line in run.log if _finite(line, name)]
    if len(points) < 2:
        return None
    steps, values = zip(*points, strict=True)
    group = "L2" if strong else label if label in ("L1", "L2") else ""
    return PlotLine(label, steps, values, group=group, strong=strong)


def _finite(line: Mapping[str, Any], name: str) -> bool:
    return all(isinstance(line.get(key), (int, float)) and math.isfinite(line[key]) for key in ("step", name))


def _floor(values: Sequence[float]) -> float:
    """Where the axis begins: at 0, unless all values lie so far above it that their course would not show."""
    low, high = min(values), max(values)
    return low - 0.1 * (high - low) if low < 0 or 2 * low > high else 0.0


def _ceiling(values: Sequence[float]) -> float:
    """Where the axis ends: above all values, or above all but a few spikes that would flatten the rest."""
    ordered = sorted(values)
    usual = ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
    return 1.05 * min(ordered[-1], 2.5 * usual) or 1.0


def mixture(facts: Facts) -> Section | None:
    """Planned against realised shares of the training data."""
    panels, rows = [], []
    for run in facts.runs:
        bars, planned = _shares(run)
        if not bars:
            continue
        panels.append(stacked_shares(run.name, bars, planned))
        realised = [_against(bar.get("replay", 0.0), planned.get(unit)) for unit, bar in bars.items()]
        rows.append((TableCell(run.name, foreign=True), _asked(run), *realised, _repeats(run)))
        units = tuple(TableColumn(unit) for unit in bars)
    if not panels:
        return None
    columns = (
        text_column("Run"),
        text_column("Asked for"),
        *units,
        TableColumn("Times shown"),
    )
    text = (
        "Share of replay: as asked for, and, in percent of each unit, as realised (as planned before training); "
        "and how often each past example is shown."
    )
    return Section(
        "What it was trained on", "mixture", (Panels(tuple(panels)), ReportTable(text, columns, tuple(rows)))
    )


def _shares(run: RunResults) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Realised shares by unit and part, and the planned share of replay by unit."""
    counted = _block(_block(run.record, "mixture"), "realised")
    planned = _block(_block(_block(run.record, "mixture"), "planned"), "shares")
    bars = {}
    for unit, name in UNITS.items():
        parts = {str(part): float(n) for part, n in _block(counted, unit).items() if isinstance(n, (int, float))}
        total = sum(parts.values())
        if total > 0:
            bars[name] = {part: n / total for part, n in parts.items()}
    wishes = {name: planned[unit] for unit, name in UNITS.items() if isinstance(planned.get(unit), (int, float))}
    return bars, wishes


def _against(realised: float, planned: float | None) -> TableCell:
    """A realised share in percent, with the planned one as its note."""
    return TableCell(f"{100 * realised:.1f}", "" if planned is None else f"{100 * planned:.1f}")


def _asked(run: RunResults) -> TableCell:
    """The share of replay that the configuration asks for, in its unit."""
    planned = _block(_block(run.record, "mixture"), "planned")
    share = planned.get("replay")
    if not isinstance(share, (int, float)):
        return TableCell("–")
    course = [planned[key] for key in ("begins", "ends") if isinstance(planned.get(key), (int, float))]
    note = f"from {100 * course[0]:.1f} to {100 * course[1]:.1f}" if len(course) == 2 else ""
    return TableCell(f"{100 * share:.1f} % of {UNITS.get(str(planned.get('unit')), 'rows')}", note)


def _repeats(run: RunResults) -> TableCell:
    repeats = _block(_block(run.record, "mixture"), "planned").get("repeats")
    return TableCell(f"{repeats:.1f}" if isinstance(repeats, (int, float)) else "–")


def dropped(facts: Facts) -> Section | None:
    """What was read, kept and dropped, by reason, in every stage that counts."""
    counts = [dict(_counts(run)) for run in facts.runs]
    names = unique(name for found in counts for name in found)
    left = unique(sentence for run in facts.runs for sentence in _left_out(facts, run))
    blocks: list[Block] = [Paragraph(sentence) for sentence in left]
    if not names and not blocks:
        return None
    rows = tuple(
        (
            TableCell(name, foreign=True),
            *(TableCell(f"{found[name]:,}" if name in found else "–") for found in counts),
        )
        for name in names
    )
    columns = (text_column("Counted"), *(TableColumn(run.name) for run in facts.runs))
    table = ReportTable("Records read, kept, dropped and cut, by stage and reason.", columns, rows)
    if names:
        blocks.insert(0, table)
    blocks += _removed(facts)
    return Section("What was dropped, and why", "dropped", blocks)


def _left_out(facts: Facts, run: RunResults) -> Iterator[str]:
    """The languages that a task was not evaluated in, with the reasons."""
    for model in filter(None, (run.base, run.adapted)):
        for task, entry in _block(model.manifest, "tasks").items():
            for code, reason in _block(entry, "left_out").items():
                yield f"{task} was not evaluated in {facts.label(code)}: {reason}."


def _counts(run: RunResults) -> Iterator[tuple[str, int]]:
    for stage in DROPS:
        for path, value in _numbers(_block(run.record, stage)):
            yield " · ".join([stage, *(name.replace("_", " ") for name in path)]), value
    for model in (run.base, run.adapted):
        cut = sum(p.cut > 0 for found in model.predictions.values() for p in found) if model else 0
        if model and cut:
            yield (
                f"evaluation · prompts cut to the model's context ({'after' if model is run.adapted else 'base'})",
                cut,
            )


def _removed(facts: Facts) -> Iterator[Block]:
    """Examples of the texts that each filter took out of the corpora."""
    rows = unique(
        (name, str(text["row"]), str(text["language"]), str(text["text"]))
        for run in facts.runs
        for name, removed in _block(_block(run.record, "corpus"), "removed").items()
        for text in removed.get("examples", ())
    )
    if rows:
        columns = tuple(text_column(title) for title in ("Filter", "Row", "Language", "Text"))
        lines = tuple(tuple(TableCell(cell, foreign=place > 0) for place, cell in enumerate(row)) for row in rows)
        table = ReportTable("The first texts that each filter took out.", columns, lines)
        yield Fold("Examples of what the filters took out", (table,))


def _numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, (*path, str(key)))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value


def again(facts: Facts) -> Section | None:
    """How to get the same numbers: command, versions, configuration, signatures."""
    blocks: list[Block] = [Fold(run.name, found) for run in facts.runs if (found := tuple(_recipe(run)))]
    if signatures := _signatures(facts):
        blocks.append(Fold("Signatures", (signatures,)))
    return Section("How to get these numbers again", "reproduce", blocks) if blocks else None


def _signatures(facts: Facts) -> ReportTable | None:
    """What each number of the main table measured; the rows by language have theirs in report.json."""
    found = {
        (row.run, row.task, row.group): signature_text(row.signature)
        for row in facts.rows
        if row.signature and not row.language and row.metric == headline(facts.rows, row.task)
    }
    rows = tuple(
        (TableCell(f"{run}, {group}", task, foreign=True), TableCell(signature))
        for (run, task, group), signature in found.items()
    )
    columns = (text_column("Number"), text_column("Signature", wide=True))
    caption = "Numbers are comparable where all but the model is the same. Every row's signature: report.json."
    return ReportTable(caption, columns, rows) if rows else None


def _recipe(run: RunResults) -> Iterator[Block]:
    command = run.record.get("command")
    if command:
        yield Code(shlex.join(map(str, command)) if isinstance(command, list) else str(command))
    elif run.config_text:
        yield Paragraph("With the configuration below in config.yaml:")
        yield Code("instructalign run config.yaml --out again")
    facts = [
        ("seed", run.record.get("seed")),
        *((f"model {key}", value) for key, value in _block(run.record, "model").items()),
        *(_block(run.record, "versions").items()),
        *((f"time: {stage.replace('_', ' ')}", t) for stage, t in _block(run.record, "timings").items()),
    ]
    rows = tuple((TableCell(str(name)), TableCell(_plain(value))) for name, value in facts if value is not None)
    if rows:
        yield ReportTable(
            "Seed, model, versions; times in seconds.",
            (text_column("What"), TableColumn("Value")),
            rows,
        )
    if run.config_text:
        yield Paragraph("Configuration:")
        yield Code(run.config_text)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int) and value > 9999:
        return f"{value:,}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _block(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}
