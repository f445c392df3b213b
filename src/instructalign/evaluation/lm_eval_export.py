"""Export of tasks to lm-evaluation-harness: YAML files that run there unchanged, and their items."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from instructalign.errors import DataError
from instructalign.evaluation.task_items import absent, read_items
from instructalign.evaluation.tasks import Task
from instructalign.files import write_jsonl, write_text
from instructalign.types import Item

_METRICS = ("acc", "acc_bytes")
"""The harness's names for accuracy by the rules `sum` and `bytes`. Its `acc_mutual_info` is not `calibrated`: it
drops the prompt and not the item's text. It has no counterpart of `mean` and `paper`."""


def export_lm_eval(
    task: Task,
    folder: Path,
    data: Path,
    *,
    languages: Sequence[str] | None = None,
    prompts: list[str] | None = None,
    items: int | None = None,
) -> list[str]:
    """Writes a task for lm-evaluation-harness: one of its tasks for each language and prompt, and a group of all.

    They ask the same questions: same prompts, label words, and one space between the two. To run them:
    `lm_eval --model hf --model_args pretrained=MODEL --include_path FOLDER --tasks TASK`. The files name each
    other by full paths; export again after moving the folder.

    Args:
        task: the task.
        folder: where to write.
        data: the folder of evaluation data.
        languages: which languages; all that have data unless some are named.
        prompts: which prompts; all unless some are named.
        items: the maximum number of items per language, chosen as in an evaluation.

    Returns:
        The names of the tasks in the harness, without the group's.

    Raises:
        DataError: the data of a language that was named are missing, or those of all languages.
    """
    folder = folder.resolve()
    chosen = languages or [code for code in task.languages if not absent(task, data, code)]
    if not chosen:
        reasons = "; ".join(absent(task, data, code) for code in task.languages)
        raise DataError(f"{task.name} has data in none of its languages: {reasons}. Name the folder with --data.")
    names = []
    for language in chosen:
        file = folder / f"{task.name}.{language}.jsonl"
        rows = read_items(task, language, data, items)
        chosen_prompts = task.choose_prompts(prompts)
        write_jsonl(file, (_harness_record(task, row, chosen_prompts) for row in rows))
        for prompt in chosen_prompts:
            name = f"{task.name}_{language}_{prompt}"
            _write(folder / f"{name}.yaml", _harness_task(task, prompt, name, file))
            names.append(name)
    _write(folder / f"{task.name}.yaml", {"group": task.name, "task": names})
    return names


def _is_plain(task: Task) -> bool:
    """Whether a Jinja template can make the prompts: all items have the same labels, and words."""
    return task.labels is not None and not task.words_for


def _harness_record(task: Task, item: Item, prompts: Sequence[str]) -> dict[str, Any]:
    """An item as a line of the harness's data; where a template cannot make its prompts, with them."""
    if _is_plain(task):
        return {**item.fields, "id": item.id, "answer": list(task.labels or ()).index(item.label)}
    asked = {f"prompt_{prompt}": task.fill(prompt, item) for prompt in prompts}
    words = {f"choices_{prompt}": list(task.words(prompt, item).values()) for prompt in prompts}
    return {**asked, **words, "id": item.id, "answer": list(task.words(prompts[0], item)).index(item.label)}


def _harness_task(task: Task, prompt: str, name: str, file: Path) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": _jinja(task.prompts[prompt].prompt) if _is_plain(task) else f"prompt_{prompt}",
        "doc_to_choice": list(task.words(prompt).values()) if _is_plain(task) else f"choices_{prompt}",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in _METRICS],
        "metadata": {"version": 1.0, "source": task.source, "licence": task.licence},
    }


def _jinja(prompt: str) -> str:
    """A prompt as a Jinja template, which the harness fills in."""
    parts = []
    for text, slot, _, _ in string.Formatter().parse(prompt):
        parts.append("{% raw %}" + text + "{% endraw %}" if "{" in text or "}" in text else text)
        if slot is not None:
            parts.append("{{" + slot + "}}")
    return "".join(parts)


def _write(path: Path, value: dict[str, Any]) -> None:
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
