"""What stands at position i of the training stream: a new alignment instruction, or a replayed past one."""

from instructalign.mixture.mixture import Mixture
from instructalign.mixture.replay import ReplayBuffer, load_replay

__all__ = ["Mixture", "ReplayBuffer", "load_replay"]
