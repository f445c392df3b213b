"""Tasks in related languages at chosen places of the relatedness dial.

How much a model gains on a language it never saw, as a function of how near that language stands to one it was
taught: write the tasks, name their files in `evaluation.tasks`, and compare base and adapted.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from instructalign.errors import DataError
from instructalign.files import write_text
from instructalign.toy.family import RELATED


def write_dial_tasks(
    folder: Path, dials: Sequence[float], *, task: str = "toy_sentiment", alone: bool = True
) -> list[Path]:
    """Writes one task file a place of the dial.

    Args:
        folder: where to write.
        dials: places from 0 (a stranger) to 1 (the parent's twin), in hundredths.
        task: the shipped toy task to vary.
        alone: a task of its own name in the related languages alone; otherwise all languages under the shipped
            task's name, so that the cells of a sweep differ in nothing but the dial.

    Returns:
        The files, in the order of `dials`; `toy_sentiment_050.yaml` has the dial at 0.5.

    Raises:
        DataError: a place outside the dial.
    """
    shipped = files("instructalign").joinpath(f"evaluation/tasks/{task}.yaml").read_text(encoding="utf-8")
    paths = []
    for dial in dials:
        if not 0 <= dial <= 1:
            raise DataError(f"relatedness must lie between 0 and 1, found {dial}")
        spec = yaml.safe_load(shipped)
        name = f"{task}_{round(100 * dial):03d}"
        spec["title"] = f"{spec['title']}, relatedness {dial:.2f}"
        if alone:
            spec.update(name=name, languages=list(RELATED))
        spec["data"]["relatedness"] = round(dial, 2)
        paths.append(folder / f"{name}.yaml")
        write_text(paths[-1], yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    return paths
