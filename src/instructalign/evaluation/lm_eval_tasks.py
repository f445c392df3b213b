"""Tasks of lm-evaluation-harness in our evaluation."""

from __future__ import annotations

from importlib.util import find_spec

from instructalign.errors import ModelError


def require_harness() -> None:
    """Raises a ModelError where lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        raise ModelError("lm-evaluation-harness is not installed: pip install 'instructalign[lm-eval]'")
