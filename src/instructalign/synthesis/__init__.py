"""Self-synthesised replay data: instructions and answers that the base model writes itself."""

from instructalign.synthesis.self_replay import synthesize

__all__ = ["synthesize"]
