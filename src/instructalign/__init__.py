"""Teach an instruction-tuned language model a new language from a small parallel corpus."""
