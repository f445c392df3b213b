"""Teach an instruction-tuned language model a new language from a small parallel corpus, keep what it knew,
and see both in numbers.

The stages, in order, each a folder that imports only the earlier ones:

1. `data`: parallel text of any format, cleaned, counted, split by sentence.
2. `instructions`: alignment instructions from parallel rows (denoising, translation, similarity, …).
3. `mixture`: those instructions interleaved with replay data.
4. `training`: the adaptation itself, on `transformers.Trainer`.
5. `evaluation`: zero-shot scores by label likelihood, with intervals and paired comparison.
6. `report`: tables, plots and one page.

The public names are below; everything else may change between versions.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.config_file import load_config
    from instructalign.data import Corpus, read_corpora
    from instructalign.doctor import examine as doctor
    from instructalign.errors import InstructAlignError
    from instructalign.evaluation import evaluate
    from instructalign.interact import chat, translate, translate_file
    from instructalign.merging import merge
    from instructalign.pipeline import generate, preview, run, train, validate
    from instructalign.report import write_report
    from instructalign.sweeps.run_sweep import sweep
    from instructalign.types import Instruction, ParallelRow, Score

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "Corpus": "data",
    "Instruction": "types",
    "InstructAlignError": "errors",
    "ParallelRow": "types",
    "Score": "types",
    "chat": "interact",
    "doctor": "doctor.diagnosis",
    "evaluate": "evaluation",
    "generate": "pipeline",
    "load_config": "config_file",
    "merge": "merging",
    "preview": "pipeline",
    "read_corpora": "data",
    "run": "pipeline",
    "sweep": "sweeps.run_sweep",
    "train": "pipeline",
    "translate": "interact",
    "translate_file": "interact",
    "validate": "pipeline",
    "write_report": "report",
}

__all__ = [
    "Config",
    "Corpus",
    "InstructAlignError",
    "Instruction",
    "ParallelRow",
    "Score",
    "chat",
    "doctor",
    "evaluate",
    "generate",
    "load_config",
    "merge",
    "preview",
    "read_corpora",
    "run",
    "sweep",
    "train",
    "translate",
    "translate_file",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `import instructalign` takes no torch along.
    if name not in _HOMES:
        raise AttributeError(f"module 'instructalign' has no attribute {name!r}")
    module = import_module(f"instructalign.{_HOMES[name]}")
    return getattr(module, name, sys.modules.get(f"instructalign.{name}"))  # `doctor` is a package to call
