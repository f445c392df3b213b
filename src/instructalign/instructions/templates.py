"""Prompt templates: data in YAML files, read strictly.

A set is one file: the language of its prompts, their source and licence, the words for the answers of yes/no
objectives, names of languages where the usual ones do not fit its prompts, and templates by objective. The package
ships some sets (`eng`, `ind`, …); a user's own is given by its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from string import Formatter
from typing import cast

import yaml
from pydantic import Field, ValidationError

from instructalign.config import Strict
from instructalign.config_file import UniqueKeys, explain_all, not_yaml
from instructalign.errors import ConfigError, DataError, UnknownNameError, suggest
from instructalign.instructions.objectives import Objective
from instructalign.instructions.segmentation import words
from instructalign.languages import canonical, name_in
from instructalign.plugins import OBJECTIVES, Entry

ANSWER_IN = "answer_in"
"""The templates that ask a question of instruction data for an answer in another language."""

_SHIPPED = files("instructalign.instructions") / "templates"
_SLOT = re.compile(r"\{\w*\}")


@dataclass(frozen=True, slots=True)
class Template:
    """One wording of an instruction.

    Attributes:
        id: the set and the template's own id: `eng/mt-1`.
        language: code of the language the prompt is in.
        prompt: the wording, with slots in braces.
        answers: the words for an objective's labels: {"yes": "yes", "no": "no"}.
        names: names of languages in its set, where the usual ones do not fit its prompts.
    """

    id: str
    language: str
    prompt: str
    answers: Mapping[str, str]
    names: Mapping[str, str]

    def name_of(self, code: str, given: Mapping[str, str]) -> str:
        """What its prompt calls a language: by the configuration's names, its set's, or else as usual."""
        return given.get(code) or self.names.get(code) or name_in(code, self.language)


class _Prompt(Strict):
    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)


class _Set(Strict):
    language: str
    source: str
    licence: str
    answers: dict[str, str] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)
    templates: dict[str, list[_Prompt]] = Field(min_length=1)
    answer_in: list[_Prompt] = Field(default_factory=list)


def template_sets() -> list[str]:
    """The names of the shipped sets."""
    return sorted(file.name[:-5] for file in _SHIPPED.iterdir() if file.name.endswith(".yaml"))


def load_templates(names: Sequence[str], objectives: Iterable[str] | None = None) -> dict[str, list[Template]]:
    """Reads template sets.

    Args:
        names: shipped sets by name, a user's own by path.
        objectives: the objectives that need a template, or `ANSWER_IN`; by default the objectives of the sets.

    Returns:
        For each objective its templates from all sets.

    Raises:
        UnknownNameError: no such set is shipped.
        ConfigError: a set is wrong, or an objective has no template in any; all problems are listed.
    """
    found: dict[str, list[Template]] = {}
    for name in dict.fromkeys(names):
        for objective, templates in _parse(_read(name), name).items():
            found.setdefault(objective, []).extend(templates)
    needed = [name for name in found if name != ANSWER_IN] if objectives is None else list(objectives)
    missing = [name for name in needed if name not in found]
    if missing:
        raise ConfigError(
            [
                f"instructions.templates: no template for {name} in {', '.join(names)}; write one in a YAML "
                f"file of your own and add its path"
                for name in missing
            ]
        )
    return {name: found[name] for name in needed}


def worded(objectives: Mapping[str, Entry]) -> list[str]:
    """The objectives of a configuration that need a template."""
    return [
        name
        for name, entry in objectives.items()
        if cast("type[Objective]", OBJECTIVES.get(name)).asks(**entry.options)
    ]


def variety(templates: Sequence[Template]) -> float:
    """Diversity of wording: 0 if all use the same words, 1 if no two share any.

    The mean, over all pairs, of one minus the share of common words (Jaccard distance), slots left out.
    """
    vocabularies = [set(map(str.casefold, words(_SLOT.sub("", template.prompt)))) for template in templates]
    distances = [1 - len(one & other) / (len(one | other) or 1) for one, other in combinations(vocabularies, 2)]
    return sum(distances) / (len(distances) or 1)


def _read(name: str) -> str:
    if not name.endswith((".yaml", ".yml")):
        if name not in template_sets():
            raise UnknownNameError("template set", name, template_sets())
        return (_SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"the template set cannot be read: {error}"], name) from None


@lru_cache(maxsize=64)
def _parse(text: str, where: str) -> Mapping[str, Sequence[Template]]:
    """The templates of a set by objective.

    Raises:
        ConfigError: something is wrong with it.
    """
    try:
        made = _Set.model_validate(yaml.load(text, Loader=UniqueKeys))
        language = canonical(made.language)
        names = {canonical(code): called for code, called in made.names.items()}
    except yaml.YAMLError as error:
        raise ConfigError([not_yaml(error)], where) from None
    except DataError as error:
        raise ConfigError([str(error)], where) from None
    except ValidationError as error:
        raise ConfigError(explain_all(error.errors(), model=_Set), where) from None
    if problems := _problems(made):
        raise ConfigError(problems, where)
    stem = Path(where).stem
    return {
        objective: [
            Template(f"{stem}/{prompt.id}", language, prompt.prompt, made.answers, names) for prompt in prompts
        ]
        for objective, prompts in [*made.templates.items(), (ANSWER_IN, made.answer_in)]
        if prompts or objective != ANSWER_IN
    }


def _problems(made: _Set) -> list[str]:
    """What is wrong with a well-formed set."""
    every = [prompt.id for prompts in (*made.templates.values(), made.answer_in) for prompt in prompts]
    twice = dict.fromkeys(id for id in every if every.count(id) > 1)
    problems = [f"templates: the id {id!r} is given {every.count(id)} times" for id in twice]
    for objective, prompts in made.templates.items():
        if objective not in OBJECTIVES:
            problems.append(f"templates.{objective}: unknown objective. {suggest(objective, OBJECTIVES.names())}")
            continue
        kind = cast("type[Objective]", OBJECTIVES.get(objective))
        for prompt in prompts:
            languages = ("target",) if kind.monolingual else ("source", "target")
            _check_prompt(prompt, kind.slots, [*kind.slots, *languages], problems)
        for label in kind.labels:
            if not made.answers.get(label, "").strip():
                problems.append(f"answers: {objective} needs a word for {label!r}")
        given = [made.answers[label] for label in kind.labels if label in made.answers]
        if len(set(given)) < len(given):
            problems.append(f"answers: {objective} needs a different word for each of {', '.join(kind.labels)}")
    for prompt in made.answer_in:
        _check_prompt(prompt, ("question", "target"), ["question", "source", "target"], problems)
    return problems


def _check_prompt(prompt: _Prompt, needed: Sequence[str], allowed: Sequence[str], problems: list[str]) -> None:
    """A prompt must have each slot that is needed once, and no others than are allowed."""
    try:
        slots = [slot for _, slot, form, _ in Formatter().parse(prompt.prompt) if slot is not None]
    except ValueError as error:
        problems.append(f"{prompt.id}: braces do not match ({error}); write {{{{ and }}}} for braces as such")
        return
    for slot in needed:
        if slots.count(slot) != 1:
            problems.append(f"{prompt.id}: needs {{{slot}}} once, found it {slots.count(slot)} times")
    for slot in dict.fromkeys(slots):
        if slot not in allowed:
            problems.append(f"{prompt.id}: unknown slot {{{slot}}}. {suggest(slot, sorted(allowed))}")
    if prompt.prompt != prompt.prompt.strip():
        problems.append(f"{prompt.id}: starts or ends with a space; the space before the answer is added later")
