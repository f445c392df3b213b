"""An objective that comes from outside the package, as a plug-in's would."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.instructions import InstructionStream, generate_instructions
from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.plugins import OBJECTIVES
from instructalign.randomness import Draws
from instructalign.types import ParallelRow

ROWS = [ParallelRow(str(i), {"eng": f"stone {i}", "jav": f"watu {i}"}) for i in range(9)]


class Spell(Objective):
    """Spelling a sentence backwards, where its number is even."""

    slots = ("forwards",)

    def __init__(self, *, marks: str = "-") -> None:
        self.marks = marks

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        if int(row.id) % 2:
            return None
        return {"forwards": row.texts[target]}, self.marks.join(reversed(row.texts[target]))


class Never(Spell):
    """One that never finds anything to do."""

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        return None


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for kind in (Spell, Never):
        monkeypatch.setitem(OBJECTIVES._places, kind.__name__.lower(), f"{__name__}:{kind.__name__}")
    path = tmp_path / "own.yaml"
    path.write_text(
        "{language: eng, source: test, licence: CC0-1.0, templates: "
        "{spell: [{id: s, prompt: 'Backwards: {forwards}'}], never: [{id: n, prompt: '{forwards}'}]}}",
        encoding="utf-8",
    )
    return path


def stream(templates: Path, objective: str, **options: object) -> InstructionStream:
    config = build_config(
        {
            "model": {"base": "x"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": "a.tsv"}],
            "instructions": {"objectives": {objective: options or None}, "templates": [str(templates)]},
            "training": {"steps": 1},
        }
    )
    return InstructionStream(ROWS, config.instructions, config.languages, config.pivots, config.seed)


def test_it_is_used_with_its_options_and_templates(templates: Path) -> None:
    made = list(generate_instructions(stream(templates, "spell", marks="."), 60))
    assert {each.row for each in made} == {"0", "2", "4", "6", "8"}
    assert {each.objective for each in made} == {"spell"}
    assert next(each for each in made if each.row == "2" and each.target == "jav").answer == "2. .u.t.a.w"


def test_its_options_are_checked(templates: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"instructions.objectives.spell.mark: unknown key. Did you mean 'marks'?"
    ):
        stream(templates, "spell", mark=".")


def test_one_that_finds_nothing_to_do_is_reported(templates: Path) -> None:
    with pytest.raises(DataError, match=r"^never .* 200 "):
        stream(templates, "never")[0]
