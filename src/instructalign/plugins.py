"""The open lists: corpus formats, objectives, replay sources, strategies and task sources.

An entry is a function or class. The keyword-only arguments of its signature are its options in the
configuration, checked with the types they are annotated with; so a new entry is one file and one line below.
A package of others adds entries through the entry-point group named with each list.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from instructalign.errors import UnknownNameError


class Registry:
    """Names and what they stand for; imported only when asked for.

    Args:
        kind: what an entry is, for error messages ("corpus format").
        group: the entry-point group through which other packages add entries.
        builtin: name → "module:attribute".
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._options: dict[str, type[BaseModel]] = {}

    @cached_property
    def _places(self) -> dict[str, str]:
        return {**{entry.name: entry.value for entry in entry_points(group=self.group)}, **self._builtin}

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._places)

    def in_order(self, chosen: Iterable[str]) -> list[str]:
        """Some of the names in the order in which they stand in the list; those of other packages come last."""
        order = {name: place for place, name in enumerate(self._builtin)}
        return sorted(chosen, key=lambda name: order.get(name, len(order)))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def get(self, name: str) -> Callable[..., Any]:
        """The function or class that a name stands for.

        Raises:
            UnknownNameError: there is no such name; the message lists those there are.
        """
        if name not in self._places:
            raise UnknownNameError(self.kind, name, self._places)
        module, _, attribute = self._places[name].partition(":")
        entry: Callable[..., Any] = getattr(import_module(module), attribute)
        return entry

    def options(self, name: str) -> type[BaseModel]:
        """A strict model of an entry's options, read off its keyword-only arguments."""
        if name not in self._options:
            entry = self.get(name)
            target = entry.__init__ if inspect.isclass(entry) else entry
            hints = get_type_hints(target, include_extras=True)
            fields: dict[str, Any] = {
                parameter.name: (
                    hints.get(parameter.name, Any),
                    ... if parameter.default is inspect.Parameter.empty else parameter.default,
                )
                for parameter in inspect.signature(target).parameters.values()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            }
            config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
            self._options[name] = create_model(f"{name}_options", __config__=config, **fields)
        return self._options[name]


FORMATS = Registry(
    "corpus format",
    "instructalign.formats",
    {
        "flores": "instructalign.data.formats.flores:read",
        "tsv": "instructalign.data.formats.delimited:read_tsv",
        "csv": "instructalign.data.formats.delimited:read_csv",
        "jsonl": "instructalign.data.formats.json_lines:read",
        "moses": "instructalign.data.formats.moses:read",
        "opus": "instructalign.data.formats.opus:read",
        "parquet": "instructalign.data.formats.parquet:read",
        "tmx": "instructalign.data.formats.tmx:read",
        "xliff": "instructalign.data.formats.xliff:read",
        "hub": "instructalign.data.formats.hub:read",
        "flores_plus": "instructalign.data.formats.hub:read_by_language",
        "toy": "instructalign.toy.datasets:read_corpus",
    },
)

OBJECTIVES = Registry(
    "objective",
    "instructalign.objectives",
    {
        "mlm": "instructalign.instructions.objectives.denoising:MLM",
        "tlm": "instructalign.instructions.objectives.denoising:TLM",
        "mt": "instructalign.instructions.objectives.mt:MT",
        "xss": "instructalign.instructions.objectives.xss:XSS",
        "align": "instructalign.instructions.objectives.align:Align",
        "dictionary": "instructalign.instructions.objectives.dictionary:Dictionary",
        "hints": "instructalign.instructions.objectives.hints:Hints",
        "codeswitch": "instructalign.instructions.objectives.codeswitch:CodeSwitch",
        "cloze": "instructalign.instructions.objectives.cloze:Cloze",
    },
)

REPLAY_SOURCES = Registry(
    "replay source",
    "instructalign.replay_sources",
    {
        "jsonl": "instructalign.mixture.replay_sources:read_jsonl",
        "hub": "instructalign.mixture.replay_sources:read_hub",
        "self": "instructalign.synthesis.self_replay:write_replay",
        "toy": "instructalign.toy.datasets:read_replay",
        "carried": "instructalign.mixture.replay_memory:read_carried",
    },
)

STRATEGIES = Registry(
    "strategy",
    "instructalign.strategies",
    {
        "none": "instructalign.training.strategies.experience_replay:NoStrategy",
        "replay": "instructalign.training.strategies.experience_replay:Replay",
        "freeze": "instructalign.training.strategies.freeze:Freeze",
        "ssu": "instructalign.training.strategies.ssu:SourceShielded",
        "l2sp": "instructalign.training.strategies.l2sp:L2SP",
        "ewc": "instructalign.training.strategies.ewc:EWC",
        "distil": "instructalign.training.strategies.distil:Distil",
        "agem": "instructalign.training.strategies.agem:AGEM",
        "ema": "instructalign.training.strategies.ema:EMA",
        "interpolate": "instructalign.training.strategies.interpolate:Interpolate",
    },
)

TASK_SOURCES = Registry(
    "task source",
    "instructalign.task_sources",
    {
        "csv": "instructalign.evaluation.task_sources:read_csv",
        "tsv": "instructalign.evaluation.task_sources:read_tsv",
        "jsonl": "instructalign.evaluation.task_sources:read_jsonl",
        "hub": "instructalign.evaluation.task_sources:read_hub",
        "pairs": "instructalign.evaluation.task_sources:read_pairs",
        "toy": "instructalign.toy.datasets:read_task",
    },
)


def toy_base() -> Path:
    """The folder of the toy family's shipped base model."""
    return Path(__file__).parent / "toy" / "base"
