"""Checks before training: what would go wrong, found before GPU hours are spent."""

from __future__ import annotations

from instructalign.doctor.diagnosis import Diagnosis, examine
from instructalign.doctor.findings import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
