"""Checks before training: what would go wrong, found before GPU hours are spent."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from instructalign.doctor.diagnosis import Diagnosis, examine
from instructalign.doctor.findings import Finding


class _Doctor(ModuleType):
    """This package called like a function is `examine`: `instructalign.doctor("mine.yaml")`."""

    def __call__(self, *arguments: Any, **options: Any) -> Diagnosis:
        return examine(*arguments, **options)


sys.modules[__name__].__class__ = _Doctor

__all__ = ["Diagnosis", "Finding", "examine"]
