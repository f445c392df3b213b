"""Monolingual text as passages: lines of a document joined up to a length, and long lines cut."""

from __future__ import annotations

import unicodedata
from array import array

from instructalign.instructions.objectives import IndexedRows
from instructalign.types import ParallelRow


class Passages:
    """The passages of monolingual text by number; every line is in one, and none has lines of two documents.

    A passage ends at the last line that fits, or within a line that is longer than a passage, at a space where
    there is one. Each takes 16 bytes of memory.

    Args:
        rows: lines of monolingual text; those of a document have one id, and stand one after another.
        length: characters that a passage has at most.

    Attributes:
        count: how many there are.
    """

    def __init__(self, rows: IndexedRows, length: int) -> None:
        self._rows = rows
        self._begins = array("Q")  # the row that a passage begins in
        self._offsets = array("Q")  # and the character of its text
        before, room = ("", ""), 0
        for number, row in enumerate(rows):
            code, text = _only_text(row)
            if (row.id, code) != before or len(text) > room:
                self._begin(number, 0)
                room, offset = length, 0
                while len(text) - offset > length:
                    offset = _cut(text, offset, length)
                    self._begin(number, offset)
                text = text[offset:]
            room -= len(text) + 1
            before = row.id, code
        self.count = len(self._begins)

    def _begin(self, row: int, offset: int) -> None:
        self._begins.append(row)
        self._offsets.append(offset)

    def __getitem__(self, number: int) -> tuple[ParallelRow, str, str]:
        row = self._rows[self._begins[number]]
        code, text = _only_text(row)
        begin, end = self._offsets[number], None
        lines = [text]
        if number + 1 < self.count:
            end = self._offsets[number + 1] or None
            last = self._begins[number + 1] + (end is not None)
        else:
            last = len(self._rows)
        for place in range(self._begins[number] + 1, last):
            lines.append(_only_text(self._rows[place])[1])
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][begin:]
        return ParallelRow(row.id, {code: "\n".join(lines).strip()}), code, code

    def goes_on(self, number: int) -> bool:
        """Whether the document has another passage after this one."""
        if number + 1 == self.count:
            return False
        here, there = self._rows[self._begins[number]], self._rows[self._begins[number + 1]]
        return self._offsets[number + 1] > 0 or (here.id, [*here.texts]) == (there.id, [*there.texts])


def _only_text(row: ParallelRow) -> tuple[str, str]:
    [(code, text)] = row.texts.items()
    return code, text


def _cut(text: str, begin: int, length: int) -> int:
    """Where the next passage begins within a line: behind the last space in reach, or before a whole character."""
    space = text.rfind(" ", begin + 1, begin + length + 1)
    if space > 0:
        return space + 1
    end = begin + length
    while end > begin + 1 and unicodedata.category(text[end])[0] == "M":
        end -= 1
    return end
