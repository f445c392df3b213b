"""Several runs of one recipe, side by side: a grid or a list of cells, with several seeds."""

from __future__ import annotations

from instructalign.sweeps.grid import Axis, Cell, Plan, plan_sweep
from instructalign.sweeps.slurm import on_cluster, read_parameters
from instructalign.sweeps.sweep import SweepResult, sweep

__all__ = ["Axis", "Cell", "Plan", "SweepResult", "on_cluster", "plan_sweep", "read_parameters", "sweep"]
