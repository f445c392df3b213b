"""The sections on gains: what they cost, whether related languages follow, what other prompts would show."""

from __future__ import annotations

from instructalign.evaluation.comparison import models_of
from instructalign.evaluation.paired_tests import FORGETTING, GAIN
from instructalign.report.evidence import Rows, prompts_table
from instructalign.report.outcome import Facts
from instructalign.report.plots import PlotPoint, scatter
from instructalign.report.rendering import Block, Panels, Paragraph, Section

FEWEST_POINTS = 3  # below this a correlation says nothing
NAMED = 12  # points up to which each has its name beside it


def trade_off(facts: Facts) -> Section | None:
    """Gain on L2 against forgetting on L1: a point for each run, a plot for each task."""
    found = Rows(facts.rows)
    panels = []
    for task in facts.tasks:
        pairs = [
            (run, found.get(run, task, FORGETTING, "L1"), found.get(run, task, GAIN, "L2"))
            for run, _ in facts.bases
        ]
        points = [
            PlotPoint(run, 100 * loss.value, 100 * gain.value, "L2") for run, loss, gain in pairs if loss and gain
        ]
        if len(points) > 1:
            title, x, y = f"Gain and forgetting, {task}", "forgetting on L1, points", "gain on L2, points"
            panels.append(scatter(title, points, x=x, y=y, best=("low", "high")))
    if not panels:
        return None
    text = "Up is more gain, left is less forgetting. The dashed line joins the runs that no other beats in both."
    return Section("What is gained for what is forgotten", "trade-off", (Panels(tuple(panels), text),))


def carried_over(facts: Facts) -> Section | None:
    """Whether gains on the related languages follow those on the new ones."""
    # The points are those of the correlation: gains in the same units.
    counted = [row.task.split(",") for row in facts.rows if row.group == "L2-L3"]
    gains = {
        (row.run, row.task, row.group): 100 * row.value
        for row in facts.rows
        if row.metric == GAIN and not row.language and (not counted or row.task in counted[0])
    }
    tasks = {task for _, task, _ in gains}
    pairs = [
        (run if len(tasks) == 1 else f"{run}, {task}", gains[run, task, "L2"], gains[run, task, "L3"])
        for run, task, group in gains
        if group == "L2" and (run, task, "L3") in gains
    ]
    points = [PlotPoint(*pair, mark=None if len(pairs) <= NAMED else "") for pair in pairs]
    if len(points) < FEWEST_POINTS:
        return None
    said = [Paragraph(facts.correlation)] if facts.correlation else []
    title, x, y = "Gain on L3 against gain on L2", "gain on L2, points", "gain on L3, points"
    panel = Panels((scatter(title, points, x=x, y=y, note=facts.correlation),))
    return Section("Do related languages follow?", "carried-over", (*said, panel))


def prompts(facts: Facts) -> Section | None:
    """What other prompts of the same kind would do to the scores and gains."""
    tables = [
        prompts_table(
            facts.rows, task, [model.name for model in models_of(facts.runs)], [run for run, _ in facts.bases]
        )
        for task in facts.tasks
    ]
    blocks: list[Block] = [table for table in tables if table is not None]
    if not blocks:
        return None
    text = (
        "Intervals elsewhere are over items, for the prompts at hand. Here prompts count as drawn from others "
        "like them: an interval of a change that excludes 0 holds for those too. Few prompts make it wide."
    )
    return Section("Would other prompts say the same?", "prompts", (Paragraph(text), *blocks))
