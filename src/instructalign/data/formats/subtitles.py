"""Subtitles: SubRip, WebVTT and (Advanced) SubStation Alpha, read through pysubs2 (https://pysubs2.readthedocs.io)."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from instructalign.data.formats import select_languages
from instructalign.data.formats.time_overlap import MinOverlap, Span, rows_of_spans
from instructalign.errors import DataError, first_line
from instructalign.files import read_lines
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow

_WHOLE_SECONDS = re.compile(r"(?<=:\d\d)(?=\s|$)")  # of a time without milliseconds
_TAGS = re.compile(r"</?[A-Za-z\d][^<>]{0,200}>|<>|</>|\{[^{}]{0,200}\}")  # not: 5 < 6 and 7 > 3


def read_subtitles(
    languages: Sequence[str],
    counts: Counts,
    *,
    files: Mapping[LanguageCode, Path],
    overlap: MinOverlap = 0.5,
) -> Iterator[ParallelRow]:
    """Reads subtitles of one film in several languages; those shown at the same time are a row.

    Formatting, comments and drawings are left out, and where captions roll, as YouTube's automatic ones do, each
    line is taken where it first appears. A row's id is its start in milliseconds.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        files: the file of each language (.srt, .vtt, .ass, .ssa), in UTF-8.
        overlap: the least share of the shorter subtitle's time that both have in common.

    Raises:
        DataError: a file is missing, not UTF-8, or has no subtitle.

    Example:
        {format: srt, files: {eng: film.en.srt, jav: film.jv.srt}}
    """
    chosen = select_languages(languages, files, "subtitles")
    yield from rows_of_spans({code: _spans(path) for code, path in chosen.items()}, overlap, "", counts)


def _spans(path: Path) -> list[Span]:
    import pysubs2

    content = "".join(
        f"{_WHOLE_SECONDS.sub('.000', line) if '-->' in line else line}\n" for _, line in read_lines(path)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers and styles, which are not read
            shown = pysubs2.SSAFile.from_string(content)
    except (pysubs2.Pysubs2Error, ValueError, OverflowError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not subtitles that can be read ({first_line(error)}).") from None
    as_text = html.unescape if shown.format == "vtt" else str  # only WebVTT has character references
    events = sorted(
        (event for event in shown if not event.is_comment and not event.is_drawing), key=lambda event: event.start
    )
    if not events:
        raise DataError(f"{path}: no subtitle was found; is this SubRip, WebVTT or SubStation Alpha?")
    lines = [
        [line for each in event.plaintext.split("\n") if (line := " ".join(as_text(_TAGS.sub("", each)).split()))]
        for event in events
    ]
    again = [0] + [
        _shown_before(*both) if earlier.start < event.start else 0
        for both, (earlier, event) in zip(pairwise(lines), pairwise(events), strict=True)
    ]
    rolling = sum(map(bool, again)) >= max(3, len(again) / 2)
    return [
        Span(event.start, event.end, " ".join(each[repeated if rolling else 0 :]))
        for event, each, repeated in zip(events, lines, again, strict=True)
        if not (rolling and repeated == len(each) > 0)
    ]


def _shown_before(before: Sequence[str], lines: Sequence[str]) -> int:
    """How many of the first lines end the subtitle before: where captions roll, nearly every one has some."""
    return next((n for n in range(min(len(before), len(lines)), 0, -1) if before[-n:] == lines[:n]), 0)
