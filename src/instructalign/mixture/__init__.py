"""The training stream: alignment instructions with replay examples among them."""

from instructalign.mixture.mixture import Mixture
from instructalign.mixture.replay_buffer import ReplayBuffer, load_replay

__all__ = ["Mixture", "ReplayBuffer", "load_replay"]
