"""Back-translation: pairs whose new-language side is real, and whose other side a model writes.

Sennrich, Haddow and Birch 2016, "Improving Neural Machine Translation Models with Monolingual Data" (arXiv
1511.06709): text of the language to learn is translated into one that the model knows, and the pair trains the
other direction.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from instructalign.config import Bounds, Config, Entry, FilterConfig, ModelConfig, known_model_keys
from instructalign.data.corpus import check_entries, clean_rows, read_corpora
from instructalign.data.filters import cleaning
from instructalign.data.shared_sentences import find_placeholders, text_keys
from instructalign.errors import ConfigError, DataError, suggest
from instructalign.files import read_jsonl, text_hash, write_jsonl
from instructalign.instructions.templates import Template, load_templates
from instructalign.languages import canonical
from instructalign.progress import Progress, silent
from instructalign.randomness import permuted
from instructalign.synthesis.candidates import copies, loops
from instructalign.synthesis.self_replay import default_cache, load_writer
from instructalign.types import Counts, ParallelRow

_VERSION = 1  # of the cached files; those of another version are not read
_CHUNK = 256  # sentences per cached file: as much as an interrupted call has to translate again at most
_BATCH_TOKENS = 16_384
_SPARE = 8  # tokens that a translation may have beyond twice its source
_PLACEHOLDERS = re.compile(
    r"%(?:\(\w+\)|\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:hh|h|ll|l|z)?[diouxXeEfgGcs@]|\$?\{\w*\}|</?[A-Za-z][^<>]*>|&\w+;"
)


@dataclass(frozen=True, slots=True)
class MachineTranslation:
    """What a model made of a sentence.

    Attributes:
        text: its first line.
        likelihood: mean log-likelihood of a token, in nats.
        defect: why it cannot be used, as far as generation shows; empty otherwise.
    """

    text: str
    likelihood: float = 0.0
    defect: str = ""


class Translator:
    """A model that translates, in the words of the first translation template.

    Translations are cached, some sentences a file, so that the same model never writes them twice.

    Args:
        config: its templates and names of languages.
        model: the model; loaded only where something is not cached.
        cache: the folder of the cached translations.
    """

    def __init__(self, config: Config, model: ModelConfig, cache: Path | None) -> None:
        self.model = model
        self.template: Template = load_templates(config.instructions.templates, ["mt"])["mt"][0]
        self._names = config.languages.names
        self._cache = cache or default_cache()
        self._load = functools.cache(load_writer)

    @property
    def origin(self) -> dict[str, str]:
        """Who translates, and how it is asked, for what is written."""
        from instructalign.training.models import model_hash

        base = self.model.base
        return {"model": base, "model_hash": model_hash(base, self.model.revision), "template": self.template.id}

    def __call__(
        self, texts: Sequence[str], source: str, target: str, progress: Progress = silent
    ) -> list[MachineTranslation]:
        """The translations of texts from one language into another, decoded greedily."""
        from instructalign.training.models import model_hash

        here, there = (self.template.name_of(code, self._names) for code in (source, target))
        prompts = [self.template.prompt.format(source=here, target=there, text=text) for text in texts]
        options = known_model_keys(self.model.model_dump(exclude={"base", "adapter"}))
        key = [_VERSION, model_hash(self.model.base, self.model.revision), options]
        made: list[MachineTranslation] = []
        for first in range(0, len(texts), _CHUNK):
            chunk = range(first, min(first + _CHUNK, len(texts)))
            part = [(texts[place], prompts[place]) for place in chunk]
            file = self._cache / "translations" / f"{text_hash([*key, part])[:24]}.jsonl"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_jsonl(file, map(asdict, self._translate(part)))
            made += [MachineTranslation(**record) for _, record in read_jsonl(file)]
            progress(f"translating into {target}", len(made), len(texts), "")
        return made

    def _translate(self, part: Sequence[tuple[str, str]]) -> list[MachineTranslation]:
        from instructalign.training.generation import LINE_END, decode_until, generate

        loaded = self._load(self.model)
        codec = loaded.codec
        lengths = codec.tokenizer([text for text, _ in part], add_special_tokens=False)["input_ids"]
        prompts = [codec.pair(prompt, "")[0] for _, prompt in part]
        limits = [2 * len(ids) + _SPARE for ids in lengths]
        context = None if codec.encoder_decoder else codec.context
        fits = [
            place
            for place in range(len(part))
            if context is None or len(prompts[place]) + limits[place] <= context
        ]
        made = [MachineTranslation("", defect="too long for the model's context")] * len(part)
        written = generate(
            loaded,
            [prompts[place] for place in fits],
            [limits[place] for place in fits],
            _BATCH_TOKENS,
            stops=LINE_END,
        )
        for place, new in zip(fits, written, strict=True):
            text, unfinished = decode_until(codec.tokenizer, new)
            defect = "unfinished" if unfinished else "" if text else "empty translation"
            made[place] = MachineTranslation(text, round(new.likelihood, 4), defect)
        return made


def back_translate(
    config: Config,
    out: Path,
    *,
    model: str | None = None,
    pivot: str | None = None,
    text: Path | None = None,
    language: str | None = None,
    count: int | None = None,
    likelihood: float = -2.0,
    round_trip: float | None = None,
    rejects: Path | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Translates monolingual text of the new languages into a known one, and writes the pairs as JSON lines.

    A line has both texts under their language codes, `synthetic` with the code of the one that the model wrote (so
    that the corpus is not read without its key `synthetic`), `sentence` (the id), `score` (mean log-likelihood of
    a token of the translation), `round_trip` (chrF++, where asked for) and `origin`. The file appears once it is
    complete; an interrupted call is resumed by repeating it.

    Args:
        config: its model, languages, templates and filters, and its corpora with one language.
        out: the file.
        model: the folder or Hub name of the model that translates, or a run's folder; by default the base.
        pivot: the language to translate into; by default the first pivot.
        text: a text file to translate instead of the configured monolingual corpora.
        language: its language, where there are several new ones.
        count: how many sentences to translate, chosen by the seed; by default all.
        likelihood: minimum mean log-likelihood of a translation's tokens, in nats.
        round_trip: minimum chrF++ of the translation's own translation beside the sentence; None to do without.
        rejects: takes a line of JSON for each sentence dropped.
        cache: the folder of the cached translations; by default in the user's cache.

    Returns:
        How many sentences were read, kept, and dropped by reason.

    Raises:
        ConfigError: there is no monolingual text, or a language is none of those configured.
        DataError: a file cannot be read, or no translation can be used.
        ModelError: the model cannot be loaded.
    """
    into = language_among(pivot or config.pivots[0], config.languages.known, "--pivot", "languages.known")
    corpora = _monolingual_corpora(config, text, language)
    translator = Translator(config, model_that_writes(config.model, model), cache)
    filter = with_pair_filters(config.filter, rejects)
    counts, records = Counts(), list[dict[str, Any]]()
    origin = translator.origin
    with cleaning(filter) as cleaner:
        counts.reject = partial(cleaner.reject, "back-translation")
        for code, entries in corpora.items():
            corpus = read_corpora(entries, [code], config.filter.model_copy(update={"rejects": None}))
            some = range(len(corpus))[:count]
            chosen = sorted(permuted(i, len(corpus), config.seed, "back-translation") for i in some)
            rows = [corpus[number] for number in chosen]
            counts.read += len(rows)
            made = translator([row.texts[code] for row in rows], code, into, progress)
            pairs: list[tuple[ParallelRow, dict[str, float]]] = []
            for row, there in zip(rows, made, strict=True):
                pair = ParallelRow(row.id, {code: row.texts[code], into: there.text})
                if reason := translation_defect(pair, there, likelihood):
                    counts.drop(reason, row=row.id, texts=dict(pair.texts), score=there.likelihood)
                elif kept := next(clean_rows([pair], cleaner, counts), None):
                    pairs.append((kept, {"score": there.likelihood}))
            if round_trip is not None:
                again = translator([pair.texts[into] for pair, _ in pairs], into, code, progress)
                for (pair, scores), back in zip(pairs, again, strict=True):
                    scores["round_trip"] = round(chrf_of(back.text, pair.texts[code]), 1)
            for (pair, scores), stock in zip(pairs, stock_replies([pair for pair, _ in pairs]), strict=True):
                reason = "one translation of many sentences" if stock else ""
                if not reason and round_trip is not None and scores["round_trip"] < round_trip:
                    reason = "round trip"
                if reason:
                    counts.drop(reason, row=pair.id, texts=dict(pair.texts), scores=scores)
                else:
                    record = {**pair.texts, "synthetic": [into], "sentence": pair.id, **scores, "origin": origin}
                    records.append(record)
    counts.kept = len(records)
    if not records:
        raise DataError(f"no translation can be used: {counts}.")
    write_jsonl(out, records)
    return counts


def with_pair_filters(filter: FilterConfig, rejects: Path | None) -> FilterConfig:
    """The configured filters, and of the preset `standard` those that compare a translation with its source."""
    pairs = {"length_ratio": Bounds(max=3), "script": Bounds(min=0.5)}
    missing = {name: bounds for name, bounds in pairs.items() if getattr(filter, name) is None}
    return filter.model_copy(update={**missing, "rejects": rejects})


def translation_defect(pair: ParallelRow, made: MachineTranslation, likelihood: float) -> str:
    """Why a translation cannot be used; empty if it can."""
    if made.defect:
        return made.defect
    if loops(made.text):
        return "repeats itself"
    if copies(*pair.texts.values()):
        return "copies the source"
    return "unlikely" if made.likelihood < likelihood else ""


def placeholder_problems(source: str, translation: str) -> list[str]:
    """Placeholders and tags (`%s`, `{0}`, `<b>`) that a translation lost or added, a sentence each."""
    before, after = (Counter(_PLACEHOLDERS.findall(text)) for text in (source, translation))
    lost, added = " ".join((before - after).elements()), " ".join((after - before).elements())
    return [f"lost {lost}"] * bool(lost) + [f"added {added}"] * bool(added)


def stock_replies(pairs: Sequence[ParallelRow]) -> list[bool]:
    """Which translations are one answer to many sentences, as "I cannot translate this." would be."""
    if not pairs:
        return []
    columns = list(text_keys(pairs, len(pairs), list(pairs[0].texts)))
    return [bool(count) for count in find_placeholders(columns)[-1]]


def chrf_of(text: str, reference: str) -> float:
    """chrF++ of one sentence (Popović 2017), by sacrebleu."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, [reference], word_order=2).score)


def _monolingual_corpora(config: Config, text: Path | None, language: str | None) -> dict[str, list[Entry]]:
    """By new language, the corpora to translate.

    Raises:
        ConfigError: there are none, or the language of a text is not clear.
    """
    if text is not None:
        if language is None and len(config.targets) > 1:
            raise ConfigError([f"--text needs --language: one of {', '.join(config.targets)}"])
        code = language_among(language or config.targets[0], config.targets, "--language", "languages.new")
        return {code: check_entries([{"format": "text", "path": text, "languages": [code]}])}
    wanted = [canonical(language)] if language else config.targets
    found = {
        code: [entry for entry in config.corpora if entry.languages == [code]]
        for code in config.targets
        if code in wanted
    }
    found = {code: entries for code, entries in found.items() if entries}
    if not found:
        raise ConfigError(
            [
                f"corpora: none is monolingual text in {', '.join(wanted)}. Give a file with --text, or add "
                f"{{format: text, path: news.txt, languages: [{wanted[0]}]}}"
            ]
        )
    return found


def language_among(given: str, codes: Sequence[str], option: str, key: str) -> str:
    """The code of a language that an option gives.

    Raises:
        ConfigError: it is not among those of a key.
    """
    code = canonical(given)
    if code not in codes:
        raise ConfigError([f"{option} {given}: not among {key}. {suggest(code, codes)}"])
    return code


def model_that_writes(base: ModelConfig, model: str | None) -> ModelConfig:
    """The model that translates: the base, another model, or that of a run's folder."""
    if model is None:
        return base.model_copy(update={"adapter": None})
    inside = Path(model) / "model"
    place = (
        str(inside) if (inside / "config.json").exists() or (inside / "adapter_config.json").exists() else model
    )
    return base.model_copy(update={"base": place, "revision": None, "adapter": None})
