"""All that was looked at, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from instructalign.doctor.corpus import CorpusPart
from instructalign.doctor.costs import CostPart
from instructalign.doctor.findings import Finding
from instructalign.doctor.leaks import LeakPart
from instructalign.doctor.lengths import LengthPart
from instructalign.doctor.mixing import MixturePart
from instructalign.doctor.tasks import TaskPart
from instructalign.doctor.tokens import LanguageTokens


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an examination found. A section that could not be looked at is None or empty; a finding says why.

    Attributes:
        corpus: the corpora and what the filters leave of them.
        tokenizer: what the tokenizer makes of each language.
        lengths: the lengths of examples against `training.max_length`.
        mixture: shares and repeats.
        contamination: test items in the training data.
        tasks: the evaluation tasks.
        costs: memory, disk and time.
        findings: what all this means, section by section.
    """

    corpus: CorpusPart | None
    tokenizer: tuple[LanguageTokens, ...]
    lengths: LengthPart | None
    mixture: MixturePart | None
    contamination: LeakPart | None
    tasks: tuple[TaskPart, ...]
    costs: CostPart | None
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many findings keep the run from starting, or make its result worthless."""
        return sum(finding.level == "problem" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings make the run worse or dearer than it need be."""
        return sum(finding.level == "warning" for finding in self.findings)

    @property
    def ready(self) -> bool:
        """Whether nothing keeps the run from starting."""
        return self.problems == 0

    @property
    def verdict(self) -> str:
        """`ready to train`, or how many problems and warnings there are."""
        warnings = f"{self.warnings} warning{'' if self.warnings == 1 else 's'}"
        if not self.ready:
            return f"{self.problems} problem{'' if self.problems == 1 else 's'}, {warnings}"
        return f"ready to train ({warnings})" if self.warnings else "ready to train"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON would have it, with the verdict first."""
        return {"verdict": self.verdict, "ready": self.ready, **asdict(self)}
