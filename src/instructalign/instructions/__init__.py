"""From parallel rows to alignment instructions."""

from instructalign.instructions.export import as_record, write_stream
from instructalign.instructions.stream import InstructionStream, generate_instructions
from instructalign.instructions.templates import Template, load_templates, template_sets, variety, worded

__all__ = [
    "InstructionStream",
    "Template",
    "as_record",
    "generate_instructions",
    "load_templates",
    "template_sets",
    "variety",
    "worded",
    "write_stream",
]
