"""Text that models write: replay data (self-synthesised rehearsal), translations of text and of replay data."""

from instructalign.synthesis.back_translation import back_translate
from instructalign.synthesis.replay_translation import translate_replay
from instructalign.synthesis.self_replay import synthesize

__all__ = ["back_translate", "synthesize", "translate_replay"]
