"""Replay data in a new language, translated by a model: question and answer, sentence by sentence.

What `translate_replay` writes is instruction data whose answers a machine wrote, as translated Alpaca is: the
weakest there is, but some can be had in every language. Each record says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    model wrote, `score` (mean log-likelihood of a token of the least likely sentence), `round_trip` (chrF++ of the
    worse of question and answer, where asked for), `original` (question, answer and language before) and `origin`.
    The file appears once it is complete; an interrupted call is resumed by repeating it.

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
    from instructalign.training.models import model_hash

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
    origin = {
        "model": translator.model.base,
        "model_hash": model_hash(translator.model.base, translator.model.revision),
        "template": translator.template.id,
    }
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
            sentences = list(
                dict.fromkeys(each for example in examples for each in _sentences(example.prompt, example.answer))
            )
            made = dict(zip(sentences, translator(sentences, code, into, progress), strict=True))
            flaws = _flaws(made, code, into, likelihood)
            kept: list[tuple[list[str], dict[str, Any]]] = []
            for example in examples:
                own = _sentences(example.prompt, example.answer)
                question, answer = _render(example.prompt, made), _render(example.answer, made)
                before, after = f"{example.prompt}\n{example.answer}", f"{question}\n{answer}"
                row = ParallelRow(example.row, {code: before, into: after})
                flaw = next((flaws[each] for each in own if each in flaws), "") if own else "nothing to translate"
                if flaw:
                    counts.drop(flaw, row=row.id, texts=dict(row.texts))
                elif next(clean_rows([row], cleaner, counts), None):
                    record: dict[str, Any] = {"inputs": question, "targets": answer, "task": example.template}
                    record |= {"lang": into, "id": example.row, "synthetic": [into]}
                    record["score"] = min(made[each].likelihood for each in own)
                    record["original"] = {"inputs": example.prompt, "targets": example.answer, "lang": code}
                    kept.append((own, record | {"origin": origin}))
            if round_trip is not None:
                written = list(dict.fromkeys(made[each].text for own, _ in kept for each in own))
                back = dict(zip(written, translator(written, into, code, progress), strict=True))
                for _, record in kept:
                    sides = filter(None, (_sentences(record["original"][key]) for key in ("inputs", "targets")))
                    again = [
                        (" ".join(back[made[each].text].text for each in side), " ".join(side)) for side in sides
                    ]
                    record["round_trip"] = round(min(chrf_of(*both) for both in again), 1)
            for _, record in kept:
                if round_trip is None or record["round_trip"] >= round_trip:
                    records.append(record)
                else:
                    texts = {into: f"{record['inputs']}\n{record['targets']}"}
                    counts.drop("round trip", row=record["id"], texts=texts, scores=record["round_trip"])
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


def _sentences(*texts: str) -> list[str]:
    """The sentences of texts that have letters, in order."""
    return [part for text in texts for part in _parts(text)[::2] if any(map(str.isalpha, part))]


def _render(text: str, made: dict[str, MachineTranslation]) -> str:
    """A text with its sentences translated, and all else as it was."""
    return "".join(made[part].text if part in made else part for part in _parts(text))


def _flaws(made: dict[str, MachineTranslation], code: str, into: str, likelihood: float) -> dict[str, str]:
    """By sentence whose translation cannot be used, why."""
    from instructalign.interact.file_translation import placeholder_problems

    pairs: Sequence[ParallelRow] = [
        ParallelRow(text, {code: text, into: each.text}) for text, each in made.items()
    ]
    flaws: dict[str, str] = {}
    for pair, stock in zip(pairs, stock_replies(pairs), strict=True):
        flaw = translation_defect(pair, made[pair.id], likelihood)
        if not flaw and placeholder_problems(*pair.texts.values()):
            flaw = "placeholders differ"
        if flaw := flaw or ("one translation of many sentences" if stock else ""):
            flaws[pair.id] = flaw
    return flaws
