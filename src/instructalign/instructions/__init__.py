"""From parallel rows to alignment instructions."""

from instructalign.instructions.export import as_record, write_instructions, write_stream
from instructalign.instructions.stream import InstructionStream, generate
from instructalign.instructions.templates import Template, load_templates, template_sets, variety

__all__ = [
    "InstructionStream",
    "Template",
    "as_record",
    "generate",
    "load_templates",
    "template_sets",
    "variety",
    "write_instructions",
    "write_stream",
]
