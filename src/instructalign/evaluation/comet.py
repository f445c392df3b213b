"""COMET (Rei et al. 2020, 2022) through its own command, `comet-score`.

COMET's package requires transformers < 5 and numpy < 2, so it cannot be installed beside this one. It has an
environment of its own; its command is called, and its scores are cached beside the translations.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from instructalign.config import CometConfig
from instructalign.errors import ConfigError, DataError
from instructalign.files import text_hash, write_json

if TYPE_CHECKING:
    from instructalign.evaluation.predictions import Translated

_MAX_ERROR = 300  # characters quoted of the command's error output


def find_command(settings: CometConfig) -> str:
    """The path of COMET's command.

    Raises:
        ConfigError: it is not installed; the message says how to install it.
    """
    command = "comet-score" if settings.command is None else str(settings.command)
    found = shutil.which(command)
    if found is None:
        raise ConfigError(
            [
                f"evaluation.comet.command: no command {command!r} was found. COMET needs an environment "
                "of its own, because its package requires older libraries than this one: python -m venv comet && "
                "comet/bin/pip install unbabel-comet; then set evaluation.comet.command to "
                "comet/bin/comet-score"
            ]
        )
    return found


def comet_scores(records: Sequence[Translated], settings: CometConfig, cache: Path) -> list[float]:
    """COMET's score of each translation; cached scores are reused for the same texts and model.

    Args:
        records: the translations, with sources and references.
        settings: model and command.
        cache: the file that keeps the scores.

    Raises:
        ConfigError: there is no such command.
        DataError: the command fails, or does not return a score for each translation.
    """
    lines = [[_line(text) for text in (record.text, record.translation, record.reference)] for record in records]
    key = text_hash([settings.model, lines])
    kept = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    if kept.get("key") != key:
        kept = {"key": key, "model": settings.model, "scores": _run_comet(lines, settings)}
        write_json(cache, kept)
    return [float(score) for score in kept["scores"]]


def _line(text: str) -> str:
    """A text on one line: the command reads one sentence per line."""
    return " ".join(text.split())


def _run_comet(lines: Sequence[Sequence[str]], settings: CometConfig) -> list[float]:
    command = find_command(settings)
    with TemporaryDirectory() as name:
        files = [Path(name) / part for part in ("source.txt", "translation.txt", "reference.txt")]
        for file, column in zip(files, zip(*lines, strict=True), strict=True):
            file.write_text("".join(f"{line}\n" for line in column), encoding="utf-8")
        answer = Path(name) / "scores.json"
        source, translation, reference = map(str, files)
        arguments = ["-s", source, "-t", translation, "-r", reference, "--model", settings.model]
        arguments += ["--batch_size", str(settings.batch_size), "--gpus", str(settings.gpus)]
        done = subprocess.run(
            [command, *arguments, "--quiet", "--only_system", "--to_json", str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answer.is_file():
            output = (done.stderr or done.stdout).strip()[-_MAX_ERROR:] or "no output"
            raise DataError(f"{command} failed with exit status {done.returncode}: {output}")
        rows = next(iter(json.loads(answer.read_text(encoding="utf-8")).values()))
    scores = [row["COMET"] for row in rows]
    if len(scores) != len(lines):
        raise DataError(f"{command} returned {len(scores)} scores for {len(lines)} translations.")
    return scores
