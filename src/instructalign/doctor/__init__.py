"""What would go wrong, found before GPU hours are spent; nothing is trained."""

from __future__ import annotations

from instructalign.doctor.diagnosis import Diagnosis, examine
from instructalign.doctor.findings import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
