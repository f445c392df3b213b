"""The sections on how the result was made: training, mixture, costs, contamination, reproducibility."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from instructalign.data.contamination import OVERLAP_KINDS
from instructalign.evaluation.score_table import headline, signature_text
from instructalign.files import format_bytes
from instructalign.licences import licence_problems, model_sources
from instructalign.report.number_format import shorten
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
from instructalign.report.report_facts import ReportFacts, block_of
from instructalign.report.report_tables import unique
from instructalign.report.run_results import RunResults

_UNITS = {"rows": "rows", "tokens": "tokens", "loss_tokens": "loss tokens"}
# Blocks of run.json that count what was read and dropped.
_COUNTED = ("corpus", "replay", "instruction_data", "encoding")
_STRATEGY_COUNTS = {
    "frozen": "{:,.0f} weights frozen",
    "projected": "{:,.0f} gradients projected",
    "examples": "{:,.0f} predictions of the base cached",
}
_MAX_EXAMPLE = 160  # characters shown of a contaminated item's text


def training(facts: ReportFacts) -> Section | None:
    """Training curves, a panel for each run, and what was monitored."""
    labels = {"loss": "all", "heldout_loss": "held out"}
    losses: dict[str, list[PlotLine]] = {}
    monitors: dict[str, dict[str, list[PlotLine]]] = {"kl": {}, "accuracy": {}}
    for run in facts.runs:
        logged = unique(key for line in run.log for key in line)
        names = [name for name in logged if name in labels or name.startswith("loss/")]
        curves = [
            _curve(run, name, labels.get(name, name.removeprefix("loss/")), strong=name == "loss")
            for name in names
        ]
        probes = [_curve(run, f"probe/{group}", group, factor=100.0) for group in ("L1", "L2")]
        for found, some in (
            (losses, curves),
            (monitors["kl"], [_curve(run, "kl_to_base", "KL", strong=True)]),
            (monitors["accuracy"], probes),
        ):
            if drawn := [curve for curve in some if curve is not None]:
                found[run.name] = drawn
    if not losses:
        return None

    def panels(found: Mapping[str, list[PlotLine]], what: str, limits: tuple[float, float], text: str) -> Panels:
        plots = (
            line_plot(name, curves, x="step", limits=limits, note=f"{what}, {name}")
            for name, curves in found.items()
        )
        return Panels(tuple(plots), text)

    text = (
        "Loss in nats per counted token: all examples (thick), single objectives and held-out instructions (thin)."
    )
    blocks: list[Block] = [panels(losses, "Training curves", _limits(losses), text)]
    if kl := monitors["kl"]:
        text = "KL divergence of the base from the model on held-out text in known languages, in nats per token."
        blocks.append(panels(kl, "KL to the base", (0.0, _limits(kl)[1]), text))
    if accuracy := monitors["accuracy"]:
        text = (
            "Zero-shot accuracy on a few items during training, percent: known languages (L1) and new ones (L2)."
        )
        blocks.append(panels(accuracy, "Zero-shot accuracy during training", (0.0, 100.0), text))
    for run in facts.runs:
        if reason := block_of(run.record, "early_stopping").get("reason"):
            blocks.append(Paragraph(f"training was stopped early: {reason}.", name=run.name))
    return Section("Training", "training", blocks)


def _curve(
    run: RunResults, name: str, label: str, *, factor: float = 1.0, strong: bool = False
) -> PlotLine | None:
    """One number of a run's log over its steps; None where fewer than two lines have it."""

    def is_finite(line: Mapping[str, Any]) -> bool:
        return all(isinstance(line.get(key), (int, float)) and math.isfinite(line[key]) for key in ("step", name))

    points = [(line["step"], factor * line[name]) for line in run.log if is_finite(line)]
    if len(points) < 2:
        return None
    steps, values = zip(*points, strict=True)
    group = "L2" if strong else label if label in ("L1", "L2") else ""
    return PlotLine(label, steps, values, group=group, strong=strong)


def _limits(found: Mapping[str, list[PlotLine]]) -> tuple[float, float]:
    """The axis of loss curves: from 0, unless all values are far above it, to above all but a few spikes."""
    ordered = sorted(value for curves in found.values() for curve in curves for value in curve.y)
    low, high = ordered[0], ordered[-1]
    floor = low - 0.1 * (high - low) if low < 0 or 2 * low > high else 0.0
    usual = ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
    return floor, 1.05 * min(high, 2.5 * usual) or 1.0


def mixture(facts: ReportFacts) -> Section | None:
    """Planned against realised shares of the training data."""
    panels, rows = [], []
    units: tuple[TableColumn, ...] = ()
    taught = any(block_of(run.record, "mixture", "planned", "instruction_data") for run in facts.runs)
    for run in facts.runs:
        realised, planned = block_of(run.record, "mixture", "realised"), block_of(run.record, "mixture", "planned")
        bars = {}
        for unit, name in _UNITS.items():
            parts = {str(k): float(n) for k, n in block_of(realised, unit).items() if isinstance(n, (int, float))}
            if (total := sum(parts.values())) > 0:
                bars[name] = {part: n / total for part, n in parts.items()}
        if not bars:
            continue
        shares = block_of(planned, "shares")
        plans = {name: shares[unit] for unit, name in _UNITS.items() if isinstance(shares.get(unit), (int, float))}
        panels.append(stacked_shares(run.name, bars, plans))
        configured, repeats = planned.get("replay"), planned.get("repeats")
        ends = [planned[key] for key in ("begins", "ends") if isinstance(planned.get(key), (int, float))]
        note = f"from {100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if len(ends) == 2 else ""
        unit = _UNITS.get(str(planned.get("unit")), "rows")
        cells = [
            TableCell(f"{100 * configured:.1f} % of {unit}", note)
            if isinstance(configured, (int, float))
            else TableCell("–")
        ]
        cells += [
            TableCell(f"{100 * bar.get('replay', 0.0):.1f}", f"{100 * plans[name]:.1f}" if name in plans else "")
            for name, bar in bars.items()
        ]
        cells.append(TableCell(f"{repeats:.1f}" if isinstance(repeats, (int, float)) else "–"))
        if taught:
            share = block_of(planned, "instruction_data").get("share", 0.0)
            done = next(iter(bars.values())).get("instruction_data", 0.0)
            cells.append(TableCell(f"{100 * done:.1f}", f"{100 * share:.1f}"))
        rows.append((TableCell(run.name, foreign=True), *cells))
        units = tuple(map(TableColumn, bars))
    columns = [text_column("Run"), text_column("Configured"), *units, TableColumn("Epochs", "of replay")]
    if taught:
        columns.append(TableColumn("Instruction data", "of rows"))
    text = (
        "Share of replay: as configured and, in percent of each unit, as realised (as planned before training); "
        "and how often each replay example is seen."
    )
    across = {
        run.name: block_of(run.record, "mixture", "planned", "instruction_data", "crosslingual")
        for run in facts.runs
    }
    if shares_across := [f"{100 * found['share']:.1f} % in {name}" for name, found in across.items() if found]:
        text += f" Of the instruction data, asked in another language than answered: {', '.join(shares_across)}."
    blocks = (Panels(tuple(panels)), ReportTable(text, tuple(columns), tuple(rows)))
    return Section("Training mixture", "mixture", blocks) if panels else None


def costs(facts: ReportFacts) -> Section | None:
    """What each anti-forgetting strategy cost, by run: time, memory, disk."""
    rows = []
    for run in facts.runs:
        whole = _number(block_of(run.record, "timings"), "training_seconds")
        for name, cost in block_of(run.record, "strategies").items():
            if not isinstance(cost, Mapping) or not any(_number(cost, key) for key in cost):
                continue
            seconds = _number(cost, "seconds")
            sizes = [format_bytes(size) if (size := _number(cost, key)) else "–" for key in ("memory", "disk")]
            counts = "; ".join(
                text.format(_number(cost, key)) for key, text in _STRATEGY_COUNTS.items() if key in cost
            )
            rows.append(
                (
                    TableCell(run.name, foreign=True),
                    TableCell(str(name)),
                    TableCell(f"{seconds:,.1f} s", f"{100 * seconds / whole:.0f} %" if whole else ""),
                    *map(TableCell, sizes),
                    TableCell(counts),
                )
            )
    columns = (
        text_column("Run"),
        text_column("Strategy"),
        TableColumn("Time", "share of training"),
        TableColumn("Memory", "per process"),
        TableColumn("Disk"),
        text_column("Counts"),
    )
    text = (
        "Cost of each strategy: time before training and beside the steps themselves, without its share of the "
        "backward pass; memory held; files written."
    )
    section = Section("Cost of anti-forgetting methods", "costs", (ReportTable(text, columns, tuple(rows)),))
    return section if rows else None


def _number(block: Mapping[str, Any], key: str) -> float:
    value = block.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def contamination(facts: ReportFacts) -> Section | None:
    """Which test items were found in the training data of each run, and what was done about it."""
    sentences, rows, examples = [], [], []
    for run in facts.runs:
        found = block_of(run.record, "contamination")
        if not found:
            continue
        if reason := found.get("not_checked"):
            sentences.append(f"{run.name}: not checked; {reason}.")
            continue
        checked = f"{run.name}: {found['texts']:,} test texts, {sum(found['checked'].values()):,} training rows; "
        if not found["leaked"]:
            sentences.append(f"{checked}no overlap found.")
            continue
        dropped = f"{sum(found['dropped'].values()):,} rows were dropped"
        action = {"drop": dropped, "report": "all rows were trained on"}[found["action"]]
        sentences.append(f"{checked}overlap with {len(found['leaked'])} test sets; {action}.")
        for each in found["leaked"]:
            task, language = facts.title(each["task"]), facts.label(each["language"])
            numbers = (each["size"], each["items"], *(each[how] for how in OVERLAP_KINDS))
            names = (TableCell(run.name, foreign=True), *map(TableCell, (each["where"], task, language)))
            rows.append((*names, *(TableCell(f"{number:,}") for number in numbers)))
            examples += [
                (task, language, *(one[key] for key in ("item", "how", "row", "text"))) for one in each["examples"]
            ]
    blocks: list[Block] = [Paragraph(sentence) for sentence in sentences]
    if rows:
        heads = (*map(text_column, ("Run", "In", "Task", "Language")),)
        heads += (*map(TableColumn, ("Items", "Found", "Exact", "Near", "Id")),)
        caption = (
            "Test items found in the training data: with all their words, with eight tenths of them (runs of five "
            "characters), or by their id only."
        )
        blocks.append(ReportTable(caption, heads, tuple(rows)))
        titles = ("Task", "Language", "Item", "Match", "Training row", "Text")
        table = _text_table(
            "The first items of each test set, and the training rows that contain them.",
            tuple(text_column(title, wide=title == "Text") for title in titles),
            [[shorten(str(value), _MAX_EXAMPLE) for value in row] for row in examples],
            first_foreign=2,
        )
        if facts.with_texts:
            blocks.append(Fold("Examples of test items in the training data", (table,)))
    return Section("Contamination", "contamination", blocks) if blocks else None


def licences(facts: ReportFacts) -> Section | None:
    """The terms of the training data and the base, where any are configured, and what does not go together."""
    rows, sentences = [], []
    for run in facts.runs:
        sources = model_sources(run.config, str(block_of(run.record, "model").get("licence", "")))
        if not any(source.stated for source in sources):
            continue
        sentences += [(run.name, problem) for problem in licence_problems(sources)]
        for source in sources:
            texts = (source.key, source.name, source.licence or "not stated", source.provenance or "–")
            rows.append((TableCell(run.name, foreign=True), *(TableCell(text, foreign=True) for text in texts)))
    columns = (*map(text_column, ("Run", "Key", "Data", "Licence")), text_column("Provenance", wide=True))
    caption = "Licences and provenance, as the configuration and the base's card state them."
    blocks: list[Block] = [Paragraph(text, name=name) for name, text in sentences]
    blocks.append(ReportTable(caption, columns, tuple(rows)))
    return Section("Licences", "licences", blocks) if rows else None


def dropped(facts: ReportFacts) -> Section | None:
    """What was read, kept and dropped, by reason, in every stage that counts."""
    counts = [dict(_counts(run)) for run in facts.runs]
    names = unique(name for found in counts for name in found)
    blocks: list[Block] = []
    if names:
        rows = tuple(
            (
                TableCell(name, foreign=True),
                *(TableCell(f"{found[name]:,}" if name in found else "–") for found in counts),
            )
            for name in names
        )
        columns = (text_column("Count"), *(TableColumn(run.name) for run in facts.runs))
        blocks.append(
            ReportTable("Records read, kept, dropped and truncated, by stage and reason.", columns, rows)
        )
    left_out = unique(
        f"{facts.title(task)} was not evaluated in {facts.label(code)}: {reason}."
        for run in facts.runs
        for model in (run.base, run.adapted)
        if model is not None
        for task, entry in block_of(model.manifest, "tasks").items()
        for code, reason in block_of(entry, "left_out").items()
    )
    blocks += map(Paragraph, left_out)
    removed = [
        (name, *(str(text[key]) for key in ("row", "language", "text")))
        for run in facts.runs
        for name, some in block_of(run.record, "corpus", "removed").items()
        for text in some.get("examples", ())
    ]
    if removed and facts.with_texts:
        heads = tuple(map(text_column, ("Filter", "Row", "Language", "Text")))
        table = _text_table("The first texts that each filter removed.", heads, removed, first_foreign=1)
        blocks.append(Fold("Examples of filtered texts", (table,)))
    return Section("Dropped data, by reason", "dropped", blocks) if blocks else None


def _text_table(
    caption: str, columns: tuple[TableColumn, ...], rows: Iterable[Iterable[str]], first_foreign: int
) -> ReportTable:
    """A table of texts, each row once; those from a column on are in unknown languages."""
    lines = unique(tuple(row) for row in rows)
    cells = tuple(
        tuple(TableCell(text, foreign=i >= first_foreign) for i, text in enumerate(row)) for row in lines
    )
    return ReportTable(caption, columns, cells)


def _counts(run: RunResults) -> Iterator[tuple[str, int]]:
    def numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from numbers(inner, (*path, str(key).replace("_", " ")))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield " · ".join(path), value

    for stage in _COUNTED:
        yield from numbers(block_of(run.record, stage), (stage,))
    for model, which in ((run.base, "base"), (run.adapted, "adapted")):
        cut = sum(p.cut > 0 for found in model.predictions.values() for p in found) if model else 0
        if cut:
            yield f"evaluation · prompts truncated to the model's context ({which})", cut


def reproducibility(facts: ReportFacts) -> Section | None:
    """How to get the same numbers: command, versions, configuration, signatures."""
    blocks: list[Block] = [Fold(run.name, found) for run in facts.runs if (found := tuple(_recipe(run)))]
    signatures = {
        (row.run, row.task, row.group): signature_text(row.signature)
        for row in facts.scores
        if row.signature and not row.language and row.metric == headline(facts.scores, row.task)
    }
    if signatures:
        rows = tuple(
            (TableCell(f"{run}, {group}", task, foreign=True), TableCell(signature))
            for (run, task, group), signature in signatures.items()
        )
        columns = (text_column("Number"), text_column("Signature", wide=True))
        caption = "Numbers are comparable where all but the model is the same. Every row's signature: report.json."
        blocks.append(Fold("Signatures", (ReportTable(caption, columns, rows),)))
    return Section("Reproducibility", "reproduce", blocks) if blocks else None


def _recipe(run: RunResults) -> Iterator[Block]:
    command = run.record.get("command")
    if command:
        yield Code(shlex.join(map(str, command)) if isinstance(command, list) else str(command))
    elif run.config_text:
        yield Paragraph("With the configuration below in config.yaml:")
        yield Code("instructalign run config.yaml --out again")
    values = [
        ("seed", run.record.get("seed")),
        *((f"model {key}", value) for key, value in block_of(run.record, "model").items()),
        *block_of(run.record, "versions").items(),
        *block_of(run.record, "machine").items(),
        *((f"commit of {name.replace('_', ' ')}", sha) for name, sha in block_of(run.record, "commits").items()),
        *((f"SHA-256 of {key}", each.get("sha256")) for key, each in block_of(run.record, "data").items()),
        *((f"time: {stage.replace('_', ' ')}", t) for stage, t in block_of(run.record, "timings").items()),
        *((f"energy: {name.replace('_', ' ')}", x) for name, x in block_of(run.record, "energy").items()),
    ]

    def plain(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and value > 9999:
            return f"{value:,}"
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return f"{value:.1f}" if isinstance(value, float) and value >= 1 else str(value)

    rows = tuple((TableCell(str(name)), TableCell(plain(value))) for name, value in values if value is not None)
    if rows:
        columns = (text_column("Property"), TableColumn("Value"))
        yield ReportTable("Seed, model, versions; times in seconds.", columns, rows)
    if run.config_text:
        yield Paragraph("Configuration:")
        yield Code(run.config_text)
