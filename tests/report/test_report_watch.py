"""What was watched while a run trained, in its report."""

from __future__ import annotations

import json
from pathlib import Path

from instructalign.report import write_report


def watched(folder: Path, *, reason: str = "") -> None:
    """Adds to a run's log what `training.kl` and `training.probe` measure."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["step"] % 200 == 0:
            drop = line["step"] / 2000
            line |= {"kl_to_base": drop, "probe": 0.6, "probe/L1": 0.9 - drop, "probe/L2": 0.4 + drop}
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["early_stopping"] = {"reason": reason, "stopped_at": 600 if reason else None}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def test_gauges_are_plotted_with_their_numbers_in_words(run_folder: Path) -> None:
    watched(run_folder, reason="kl_to_base is 0.3 after step 600, past 0.25")
    page = write_report([run_folder]).html.read_text(encoding="utf-8")
    assert "KL divergence of the base from the model on held-out text in known languages" in page
    assert "KL to the base, replay" in page
    assert "KL from 0.10 to 0.30 at step 600" in page
    assert "L1 from 80.00 to 60.00 at step 600; L2 from 50.00 to 70.00 at step 600" in page
    assert "training ended early: kl_to_base is 0.3 after step 600, past 0.25." in page


def test_a_run_that_was_not_watched_has_no_gauges(run_folder: Path) -> None:
    page = write_report([run_folder]).html.read_text(encoding="utf-8")
    assert "KL divergence of the base" not in page
    assert "Zero-shot accuracy on a few items while" not in page
    assert "ended early" not in page
