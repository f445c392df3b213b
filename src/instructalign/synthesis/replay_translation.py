"""Replay data in a new language, translated by a model: question and answer, sentence by sentence.

What `translate_replay` writes is instruction data whose answers a machine wrote, as translated Alpaca is: the
weakest there is, but some can be had in every language. Each record says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.data import ContaminationCheck
from instructalign.data.corpus import clean_rows
from instructalign.data.filters import cleaning
from instructalign.errors import ConfigError, DataError
from instructalign.files import write_jsonl
from instructalign.instructions.segmentation import split_sentences
from instructalign.languages import canonical
from instructalign.mixture import load_replay
from instructalign.mixture.replay_buffer import check_replay
from instructalign.progress import Progress, silent
from instructalign.synthesis.back_translation import (
    MachineTranslation,
    Translator,
    chrf_of,
    language_among,
    model_that_writes,
    placeholder_problems,
    stock_replies,
    translation_defect,
    with_pair_filters,
)
from instructalign.types import Counts, Instruction, ParallelRow


def translate_replay(
    config: Config,
    out: Path,
    *,
    model: str | None = None,
    pivot: str | None = None,
    language: str | None = None,
    count: int | None = None,
    likelihood: float = -2.0,
    round_trip: float | None = None,
    rejects: Path | None = None,
    check: ContaminationCheck | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Translates replay examples into a new language, and writes them as JSON lines.

    A line has `inputs`, `targets`, `task`, `lang`, an `id`, `synthetic` with the code of the language that the
    model wrote, of its worst sentence the `score` (mean log-likelihood of a token) and `round_trip` (chrF++, where
    asked for), `original` (question, answer and language before) and `origin`. The file appears once it is
    complete; an interrupted call is resumed by repeating it.

    Args:
        config: its model, languages, templates, filters and replay data. What `replay.heldout` takes is left out.
        out: the file.
        model, likelihood, round_trip, rejects, cache: as for `back_translate`; an example is dropped with its
            worst sentence.
        pivot: the language of replay examples that name none; by default the first pivot.
        language: the new language, where there are several.
        count: how many examples to translate; by default `replay.size`.
        check: the test items to look for in the examples before they are translated, which hides them.

    Returns:
        How many examples were read, kept, and dropped by reason.

    Raises:
        ConfigError: there is no replay data, or a language is none of those configured.
        DataError: a file cannot be read, or no translation can be used.
        ModelError: the model cannot be loaded.
    """
    size = count or (config.replay.size if config.replay else 0)
    if config.replay is None or not size:
        raise ConfigError(["replay: no examples to translate. Add a replay.source, and its size or --count"])
    if language is None and len(config.targets) > 1:
        raise ConfigError([f"--translate-replay needs --language: one of {', '.join(config.targets)}"])
    into = language_among(language or config.targets[0], config.targets, "--language", "languages.new")
    unnamed = language_among(pivot or config.pivots[0], config.languages.known, "--pivot", "languages.known")
    settings = config.replay.model_copy(update={"size": size})
    buffer = load_replay(settings, config.seed, config.model, progress=progress)
    buffer, _ = check_replay(buffer, check or ContaminationCheck())
    translator = Translator(config, model_that_writes(config.model, model), cache)
    origin = translator.origin
    counts, by_language, records = Counts(read=len(buffer)), dict[str, list[Instruction]](), list[dict[str, Any]]()
    with cleaning(with_pair_filters(config.filter, rejects)) as cleaner:
        counts.reject = partial(cleaner.reject, "replay translation")
        for example in buffer.examples:
            code = _language_of(example, unnamed)
            reason = "conversation of several turns" if example.turns else "in no known language"
            if example.turns or code not in config.languages.known:
                counts.drop(reason, row=example.row, texts={code: f"{example.prompt}\n{example.answer}"})
            else:
                by_language.setdefault(code, []).append(example)
        for code, examples in by_language.items():
            sentences = [part for each in examples for part in _sentences(f"{each.prompt}\n{each.answer}")]
            made, scores = _translate(translator, sentences, code, into, likelihood, round_trip, progress)
            for example in examples:
                question, answer = _render(example.prompt, made), _render(example.answer, made)
                before, after = f"{example.prompt}\n{example.answer}", f"{question}\n{answer}"
                parts = _sentences(before)
                own = [made[part] for part in parts]
                flaw = next((each.defect for each in own if each.defect), "") if own else "nothing to translate"
                row = ParallelRow(example.row, {code: before, into: after})
                if flaw:
                    counts.drop(flaw, row=row.id, texts=dict(row.texts))
                elif next(clean_rows([row], cleaner, counts), None):
                    record: dict[str, Any] = {"inputs": question, "targets": answer, "task": example.template}
                    record |= {"lang": into, "id": example.row, "synthetic": [into]}
                    record["score"] = min(each.likelihood for each in own)
                    if scores:
                        record["round_trip"] = min(scores[part] for part in parts)
                    record["original"] = {"inputs": example.prompt, "targets": example.answer, "lang": code}
                    records.append(record | {"origin": origin})
    counts.kept = len(records)
    if not records:
        raise DataError(f"no translation can be used: {counts}.")
    write_jsonl(out, records)
    return counts


def _language_of(example: Instruction, unnamed: str) -> str:
    """The language that an example names; as it names it, where that is none."""
    named = example.target or example.source or unnamed
    try:
        return canonical(named)
    except DataError:
        return named


def _parts(text: str) -> list[str]:
    """A text as sentences, none longer than its line, and what is between them, in turn."""
    lines = re.split(r"(\s*\n\s*)", text.strip())
    return [part for n, line in enumerate(lines) for part in ([line] if n % 2 else split_sentences(line))]


def _sentences(text: str) -> list[str]:
    """The sentences of a text that have letters, in order."""
    return [part for part in _parts(text)[::2] if any(map(str.isalpha, part))]


def _render(text: str, made: dict[str, MachineTranslation]) -> str:
    """A text with its sentences translated, and all else as it was."""
    return "".join(made[part].text if part in made else part for part in _parts(text))


def _translate(
    translator: Translator,
    sentences: Sequence[str],
    code: str,
    into: str,
    likelihood: float,
    round_trip: float | None,
    progress: Progress,
) -> tuple[dict[str, MachineTranslation], dict[str, float]]:
    """By sentence its translation, with why it cannot be used as its defect; and the chrF++ of its round trip."""
    texts = list(dict.fromkeys(sentences))
    made = dict(zip(texts, translator(texts, code, into, progress), strict=True))
    pairs = [ParallelRow(text, {code: text, into: each.text}) for text, each in made.items()]
    for pair, stock in zip(pairs, stock_replies(pairs), strict=True):
        flaw = translation_defect(pair, made[pair.id], likelihood)
        flaw = flaw or ("placeholders differ" if placeholder_problems(*pair.texts.values()) else "")
        flaw = flaw or ("one translation of many sentences" if stock else "")
        made[pair.id] = replace(made[pair.id], defect=flaw)
    scores: dict[str, float] = {}
    if round_trip is not None:
        good = [text for text, each in made.items() if not each.defect]
        back = translator([made[text].text for text in good], into, code, progress)
        for text, again in zip(good, back, strict=True):
            scores[text] = round(chrf_of(again.text, text), 1)
            made[text] = replace(made[text], defect="round trip" if scores[text] < round_trip else "")
    return made, scores
