"""Several runs of one recipe, side by side: a grid or a list of cells, with several seeds."""

from __future__ import annotations

from instructalign.sweeps.grid import GridAxis, SweepCell, SweepPlan, plan_sweep
from instructalign.sweeps.run_sweep import SweepResult, sweep
from instructalign.sweeps.slurm import SlurmExecutor, read_slurm_parameters

__all__ = [
    "GridAxis",
    "SlurmExecutor",
    "SweepCell",
    "SweepPlan",
    "SweepResult",
    "plan_sweep",
    "read_slurm_parameters",
    "sweep",
]
