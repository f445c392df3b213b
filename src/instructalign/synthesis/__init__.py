"""Text that models write: replay data (self-synthesised rehearsal), and translations of monolingual text."""

from instructalign.synthesis.back_translation import back_translate
from instructalign.synthesis.self_replay import synthesize

__all__ = ["back_translate", "synthesize"]
