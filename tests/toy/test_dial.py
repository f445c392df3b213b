from __future__ import annotations

from pathlib import Path

import pytest

from instructalign.errors import DataError
from instructalign.evaluation.tasks import load_task
from instructalign.toy.datasets import read_task
from instructalign.toy.dial import write_dial_tasks
from instructalign.toy.family import RELATED


def test_each_place_of_the_dial_is_a_task_of_the_related_languages(tmp_path: Path) -> None:
    files = write_dial_tasks(tmp_path, [0, 0.5, 1])
    tasks = [load_task(str(file)) for file in files]
    assert [task.name for task in tasks] == ["toy_sentiment_000", "toy_sentiment_050", "toy_sentiment_100"]
    assert all(list(task.languages) == list(RELATED) for task in tasks)
    assert [task.data.options["relatedness"] for task in tasks] == [0, 0.5, 1]
    twin = read_task(Path(), "qra", "qra", **tasks[2].data.options)
    assert [row["text"] for row in twin] == [row["text"] for row in read_task(Path(), "qna", "qna")]


def test_the_prompts_and_labels_are_those_of_the_shipped_task(tmp_path: Path) -> None:
    (file,) = write_dial_tasks(tmp_path, [0.3], task="toy_topic")
    varied, shipped = load_task(str(file)), load_task("toy_topic")
    assert (varied.prompts, varied.labels, varied.fields) == (shipped.prompts, shipped.labels, shipped.fields)


def test_a_place_beyond_the_dial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="relatedness must lie between 0 and 1, found -0"):
        write_dial_tasks(tmp_path, [-0.1])


def test_the_shipped_places_of_the_dial_are_what_is_written_today(tmp_path: Path) -> None:
    shipped = sorted((Path(__file__).parents[2] / "configs" / "toy" / "dial").glob("*.yaml"))
    written = write_dial_tasks(tmp_path, [0, 0.25, 0.5, 0.75, 1], alone=False)
    assert [file.name for file in shipped] == [file.name for file in written]
    for one, other in zip(shipped, written, strict=True):
        assert one.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")
    task, usual = load_task(str(shipped[0])), load_task("toy_sentiment")
    assert (task.name, task.languages, task.prompts) == (usual.name, usual.languages, usual.prompts)
