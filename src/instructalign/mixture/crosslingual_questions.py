"""Instruction data across languages: the question in one language, the answer in another.

Lin et al. 2024, "CrossIn" (arXiv 2404.11932): records that exist in several languages are mixed, question and
answer from different ones; Li et al. 2024, "X-Instruction" (arXiv 2405.19744): English questions, answers in the
language to learn. Records of one id are translations of one another. The answer stays where it is; its question is
taken from another language, and a template says which language to answer in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from instructalign.config import Config, Entry
from instructalign.errors import DataError
from instructalign.files import notice
from instructalign.instructions.templates import ANSWER_IN, load_templates, template_sets
from instructalign.mixture.mixture import ReplaySchedule
from instructalign.mixture.replay_buffer import INSTRUCTION_DATA, ReplayBuffer, open_source
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.randomness import Draws, digest_key
from instructalign.types import Instruction


@dataclass(frozen=True, slots=True)
class _Record:
    question: str
    answer: str
    place: str


def ask_across_languages(config: Config, taught: ReplayBuffer) -> ReplayBuffer:
    """Instruction data with some of its questions in another language, whose code is then their `source`.

    Of each language's examples that have a translation, any first n hold their share of them, rounded down. A
    record whose question or answer is the same text in both languages may not be translated: it is none.

    Args:
        config: its `instruction_data`, templates and names of languages.
        taught: the examples chosen.

    Raises:
        DataError: a source cannot be read, two records of a language have one id, or no id is in two languages.
    """
    data, settings = config.instruction_data, config.taught_data
    if data is None or settings is None or not data.crosslingual or not len(taught):
        return taught
    sources = [source for source in settings.sources if source.options.get("id")]
    codes = list(dict.fromkeys(code for source in sources for code in source.languages or ()))
    if len(codes) < 2:  # as in a stage that teaches one of them
        notice(f"{INSTRUCTION_DATA}.crosslingual: only {codes} has records with an id in this run.")
        return taught
    records = _records(sources, {each.id for each in taught.examples if each.id}, config.seed)
    sets = [*config.instructions.templates, *template_sets()]
    templates = load_templates(sets, [ANSWER_IN])[ANSWER_IN]
    share, eligible = ReplaySchedule(data.crosslingual), Counter[str]()
    examples: list[Instruction] = []
    for example in taught.examples:
        others = _translations(example, records.get(example.id, {}))
        number = eligible[example.target]
        eligible[example.target] += bool(others)
        if others and share.replayed(number + 1) > share.replayed(number):
            code = sorted(others)[share.replayed(number) % len(others)]  # the others take turns
            language = code if any(each.language == code for each in templates) else templates[0].language
            draws = Draws(digest_key(config.seed, "answer in", example.target), number)
            template = draws.choice([each for each in templates if each.language == language])
            names = [template.name_of(each, config.languages.names) for each in (code, example.target)]
            prompt = template.prompt.format(question=others[code], source=names[0], target=names[1])
            example = replace(example, prompt=prompt, source=code)
        examples.append(example)
    if not eligible.total():
        raise DataError(
            f"{INSTRUCTION_DATA}.crosslingual is {data.crosslingual}, but none of {len(taught):,} examples has "
            f"a translation: a record of the same id, with other text, among {', '.join(codes)}. Check the id of "
            "the sources, or leave crosslingual out."
        )
    if alone := len(taught) - eligible.total():
        notice(f"{INSTRUCTION_DATA}.crosslingual: {alone:,} of {len(taught):,} examples have no translation.")
    return replace(taught, examples=tuple(examples))


def _records(sources: Sequence[Entry], wanted: set[str], seed: int) -> dict[str, dict[str, _Record]]:
    """By id and language, the records of some ids that are one question and its answer."""
    found: dict[str, dict[str, _Record]] = {}
    for source in sources:
        for example in open_source(source, ReplayRequest(seed=seed)):
            if example.id not in wanted or example.turns:
                continue
            of_id, code = found.setdefault(example.id, {}), example.target
            first = of_id.setdefault(code, _Record(example.prompt, example.answer, example.row))
            if first.question != example.prompt:
                raise DataError(
                    f"{INSTRUCTION_DATA}.sources.{code}: two records have the id {example.id!r}, {first.place} "
                    f"and {example.row}, so that it is not clear which one the other languages translate. Give id "
                    "to the sources that are translations of one another only, or make the ids differ."
                )
    return found


def _translations(example: Instruction, records: Mapping[str, _Record]) -> dict[str, str]:
    """By other language, the question of an example in it."""
    if example.turns:
        return {}
    question, answer = example.prompt.casefold(), example.answer.casefold()
    spelled = any(map(str.isalpha, answer))  # numbers are the same in every language
    return {
        code: each.question
        for code, each in records.items()
        if code != example.target
        and each.question.strip()
        and each.question.casefold() != question
        and not (spelled and each.answer.casefold() == answer)
    }


def count_crosslingual(taught: ReplayBuffer, rows: int, seed: int) -> dict[str, int]:
    """How many of the first `rows` examples shown are asked in another language: by both, as in `eng-jav`."""
    rounds, rest = divmod(rows, len(taught))
    whole = Counter(_direction(each) for each in taught.examples)
    counts = Counter({direction: rounds * count for direction, count in whole.items()})
    counts.update(_direction(taught.walk(rounds * len(taught) + number, seed)) for number in range(rest))
    return {direction: count for direction, count in sorted(counts.items()) if direction and count}


def _direction(example: Instruction) -> str:
    return f"{example.source}-{example.target}" if example.source else ""
