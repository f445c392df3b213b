"""What stands at position i of the training stream: a new alignment instruction, or a replayed past one."""

from instructalign.mixture.replay import ReplayBuffer, load_replay
from instructalign.mixture.schedule import Mixture

__all__ = ["Mixture", "ReplayBuffer", "load_replay"]
