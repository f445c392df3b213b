"""Teach an instruction-tuned language model a new language from a small parallel corpus, keep what it knew,
and see both in numbers.

The stages, in order, each a folder that imports only the earlier ones:

1. `corpora`: parallel text of any format, cleaned, counted, split by sentence.
2. `instructions`: alignment instructions from parallel rows (denoising, translation, similarity, …).
3. `mixture`: those instructions interleaved with replay of past instruction data.
4. `training`: the adaptation itself, on `transformers.Trainer`.
5. `evaluation`: zero-shot scores by label likelihood, with intervals and paired comparison.
6. `report`: tables, plots and one page.

The public names are below; everything else may change between versions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.configfile import load_config
    from instructalign.corpora import Corpus, read_corpora
    from instructalign.errors import InstructAlignError
    from instructalign.evaluation import evaluate
    from instructalign.merging import merge
    from instructalign.pipeline import generate, preview, run, train
    from instructalign.records import Instruction, ParallelRow, Score
    from instructalign.report import write_report
    from instructalign.sweeps.run import sweep

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "Corpus": "corpora",
    "Instruction": "records",
    "InstructAlignError": "errors",
    "ParallelRow": "records",
    "Score": "records",
    "evaluate": "evaluation",
    "generate": "pipeline",
    "load_config": "configfile",
    "merge": "merging",
    "preview": "pipeline",
    "read_corpora": "corpora",
    "run": "pipeline",
    "sweep": "sweeps.run",
    "train": "pipeline",
    "write_report": "report",
}

__all__ = [
    "Config",
    "Corpus",
    "InstructAlignError",
    "Instruction",
    "ParallelRow",
    "Score",
    "evaluate",
    "generate",
    "load_config",
    "merge",
    "preview",
    "read_corpora",
    "run",
    "sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `import instructalign` takes no torch along.
    if name not in _HOMES:
        raise AttributeError(f"module 'instructalign' has no attribute {name!r}")
    return getattr(import_module(f"instructalign.{_HOMES[name]}"), name)
