"""The licences of a run's data and base model: what each asks for, and where they do not go together.

No legal advice: whether a model is an adaptation of its training data is disputed. What is found here is what a
reader of a model card would ask about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FREE = (
    r"cc0|pd\b|public.?domain|pddl|unlicense|0bsd|cc-by|apache|mit\b|bsd|isc\b|odc-by|cdla-permissive|ofl|mpl|nlod"
)
_KNOWN = re.compile(rf"{_FREE}|a?gpl|lgpl|odbl|gfdl|rail|bloom|llama|gemma")
_CLOSED = re.compile(
    r"all.rights|proprietary|copyright(?!.free)|confidential|closed|internal|no.permission|^none$"
)
_SHARE_ALIKE = re.compile(r"\bsa\b|a?gpl|lgpl|odbl|gfdl")
_OWN_TERMS = re.compile(r"rail|bloom|llama|gemma")


@dataclass(frozen=True, slots=True)
class DataSource:
    """One source of a run's training data, or its base model, with the terms of its use.

    Attributes:
        key: its path in the configuration (`corpora.0`).
        name: what a reader knows it by: its label, name on the Hub, or file.
        licence: as the user wrote it, or the base's card says; empty where nothing does.
        provenance: who made it and with whose consent, in the user's words.
        dataset: its name on the Hub; empty where it is no dataset there.
        stated: whether the user said any of this; the shipped toy data has its licence from us.
    """

    key: str
    name: str
    licence: str = ""
    provenance: str = ""
    dataset: str = ""
    stated: bool = True

    @property
    def asks(self) -> set[str]:
        """What the licence asks for: `known`, `closed`, `nc`, `nd`, `sa`, `own terms`, whichever hold."""
        text = _spdx(self.licence)
        text = re.sub("non-?commercial", "nc", re.sub("no-?deriv(ative)?s?", "nd", text)).replace(
            "sharealike", "sa"
        )
        text = re.sub("creative-commons|cc(?=-?by)-?", "cc-", text).replace("attribution", "by").replace("--", "-")
        text = text.replace("share-alike", "sa")
        parts = {"nc", "nd"} & set(re.split(r"[^a-z]+", text))
        patterns = {"known": _KNOWN, "closed": _CLOSED, "sa": _SHARE_ALIKE, "own terms": _OWN_TERMS}
        return parts | {name for name, pattern in patterns.items() if pattern.search(text)}


def model_sources(config: Mapping[str, Any], licence: str) -> list[DataSource]:
    """What a run's model is made from: its base, corpora, lexicons and replay data.

    Args:
        config: the configuration as plain dictionaries, as `config.yaml` has it.
        licence: that of the base, as `base_licence` found it; empty where it did not.
    """
    base = str((config.get("model") or {}).get("base", ""))
    name = Path(base).name if Path(base).is_absolute() else base
    data = [
        source
        for key in ("corpora", "instructions", "replay", "instruction_data")
        for source in _sources(config.get(key), key)
    ]
    return [DataSource("model.base", name, licence, stated=False), *data]


def _sources(block: Any, path: str) -> Iterator[DataSource]:
    if isinstance(block, Mapping) and isinstance(block.get("format"), str):
        files = [value for key, value in block.items() if key in ("path", "folder", "files", "data_files")]
        file = next((each for each in files if isinstance(each, str)), "")
        name = str(block.get("name") or "")
        on_hub = re.search(r"hf://datasets/([^/@]+/[^/@]+)", file)
        dataset = on_hub[1] if on_hub else name if name.count("/") == 1 else ""
        # The shipped toy data and what the base writes itself are nobody else's.
        ours = {"toy": "Apache-2.0", "self": "Apache-2.0", "carried": "Apache-2.0"}.get(block["format"], "")
        shown = block.get("label") or dataset or Path(file).name or name or block["format"]
        licence, provenance = (str(block.get(key) or "") for key in ("licence", "provenance"))
        yield DataSource(path, str(shown), licence or ours, provenance, dataset, bool(licence or provenance))
    elif isinstance(block, (Mapping, list)):
        for key, inner in block.items() if isinstance(block, Mapping) else enumerate(block):
            yield from _sources(inner, f"{path}.{key}")


def base_licence(base: str) -> str:
    """The licence that a model's card names, in its folder or the Hub's local cache; empty where there is none."""
    if base == "toy":
        return "Apache-2.0"
    from huggingface_hub import metadata_load, try_to_load_from_cache

    card: Any = Path(base) / "README.md"
    if not Path(base).is_dir():
        card = try_to_load_from_cache(base, "README.md") if base.count("/") == 1 else None
    if not isinstance(card, (str, Path)) or not Path(card).is_file():
        return ""
    try:
        about = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError):  # of no form that the Hub reads
        return ""
    found = about.get("license")
    return str((about.get("license_name") if found == "other" else "") or found or "")


def licence_problems(sources: Sequence[DataSource]) -> list[str]:
    """What is to be asked or decided before a model made from these sources is shared, a sentence each."""
    problems = []

    def named(some: Sequence[DataSource]) -> str:
        return ", ".join(f"{each.name} ({each.licence or 'no licence given'})" for each in some)

    data = [each for each in sources if each.key != "model.base"]
    if missing := [each for each in data if not each.licence]:
        keys = ", ".join(f"{each.key}.licence" for each in missing)
        problems.append(f"{named(missing)}: without a licence nobody else may use it. Set {keys}.")
    if unclear := [each for each in data if each.licence and not each.asks & {"known", "closed"}]:
        problems.append(f"{named(unclear)}: not a licence known here; read what it allows before sharing.")
    asks = {
        what: [each for each in sources if what in each.asks] for what in ("closed", "nd", "nc", "sa", "own terms")
    }
    if asks["closed"]:
        problems.append(f"{named(asks['closed'])}: sharing the model needs the consent of the rights holders.")
    if asks["nd"]:
        problems.append(
            f"{named(asks['nd'])}: adaptations may not be shared, and a model trained on the data may be one. "
            "Ask the rights holders."
        )
    alike = {_spdx(each.licence): each for each in asks["sa"]}
    if len(alike) > 1:
        problems.append(
            f"{named([*alike.values()])}: each asks for its own licence on what is made from the data; not all "
            "can have it."
        )
    open_alike = [each for each in asks["sa"] if "nc" not in each.asks]
    if asks["nc"]:
        free = [each for each in sources if each.asks >= {"known"} and not each.asks & {"nc", "sa", "own terms"}]
        allows = f", although {named(free)} alone would allow it" if free else ""
        problems.append(f"{named(asks['nc'])}: the model is not for commercial use{allows}.")
        if open_alike:
            problems.append(
                f"{named(asks['nc'])} forbids commercial use and {named(open_alike)} asks that it be allowed: "
                "leave one out."
            )
    if asks["sa"] and (own := [each for each in asks["own terms"] if each not in asks["sa"]]):
        problems.append(
            f"{named(own)} has terms of its own for what is made from it, {named(asks['sa'])} allows no others: "
            "ask."
        )
    return problems


def resulting_licence(sources: Sequence[DataSource]) -> str:
    """The licence that a model made from these sources may have; empty where people have to decide."""
    if not sources or any("known" not in each.asks or each.asks & {"closed", "nd"} for each in sources):
        return ""
    binding = [each for each in sources if each.asks & {"own terms", "sa", "nc"}]
    names = {_spdx(each.licence) for each in binding}
    alike = {_spdx(each.licence) for each in binding if "sa" in each.asks}
    others = set().union(*(each.asks for each in binding if _spdx(each.licence) not in alike))
    if len(names) > 1 and len(alike) == 1 and "own terms" not in others:
        [name] = alike  # it may bind the others' data too, unless they forbid what it asks to be allowed
        return name if "nc" not in others or "nc" in name.split("-") else ""
    if names:
        return names.pop() if len(names) == 1 else ""
    return next((_spdx(each.licence) for each in sources if each.key == "model.base"), "")


def _spdx(licence: str) -> str:
    """A licence's name as the Hub writes it: `CC BY 4.0` is `cc-by-4.0`."""
    return re.sub(r"[\s_]+", "-", licence.strip().lower())
