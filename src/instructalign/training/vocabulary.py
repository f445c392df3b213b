"""New pieces for a base's tokenizer, learned from text in the new languages (`model.vocabulary`).

Byte-pair encoding goes on from where the tokenizer's own training stopped: text is tokenized as it was, and
pairs of its tokens are merged, the most frequent first ("continued BPE", Purason et al. 2025, arXiv 2512.03989).
New merges rank behind all old ones, and none of them makes an old token, so that a text's tokens change only
where two tokens of a new merge stand side by side. A unigram tokenizer (SentencePiece) gets pieces of a unigram
model of the new text.

What is promised: every text of the known languages that the run has (its training sentences, replay examples,
instruction data and prompts, at most `_PROTECTED`) keeps its tokens; pieces that would change them are left out.
So does every other text in which no new piece occurs, such as all text without a letter of a script that only new
pieces have.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from instructalign.config import Config, VocabularyConfig
from instructalign.data import Corpus
from instructalign.errors import ModelError, TrainingError
from instructalign.instructions import load_templates, worded
from instructalign.instructions.segmentation import words
from instructalign.mixture import ReplayBuffer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LEARNED, _PROTECTED = 200_000, 50_000  # texts at most
_MEASURED = 2_000  # texts by language whose tokens are counted
_SEEN = 2  # times that a piece must occur
_SPARE = 1.25  # of a unigram model's pieces: what is learned for each that is wanted

Pair = tuple[int, int]
"""Two tokens side by side."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A tokenizer with new pieces.

    Attributes:
        tokenizer: the extended one.
        first: the id of the first new piece; the others follow.
        parts: by new piece, the old tokens that stood for it.
        record: what was asked for, found and promised, for run.json.
    """

    tokenizer: PreTrainedTokenizerBase
    first: int
    parts: tuple[tuple[int, ...], ...]
    record: Mapping[str, Any]

    @property
    def ids(self) -> range:
        """The ids of the new pieces."""
        return range(self.first, self.first + len(self.parts))


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    corpus: Corpus,
    heldout: Corpus,
    replay: ReplayBuffer,
    taught: ReplayBuffer,
) -> Extension:
    """Learns new pieces and adds them to a copy of a tokenizer.

    Args:
        tokenizer: the base's; it stays as it is.
        config: the run's configuration, with `model.vocabulary`.
        corpus: what the run trains on, and learns from: no held-out sentences, no test items that are dropped.
        heldout: held-out sentences, to count tokens in.
        replay: the run's replay examples.
        taught: its instruction data.

    Raises:
        ModelError: the tokenizer is of a kind that cannot be extended, or does not load as extended.
        TrainingError: no piece is left.
    """
    settings = config.model.vocabulary or VocabularyConfig(add=1)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    spec: Any = (
        json.loads(backend.to_str()) if backend is not None else {"model": {"type": type(tokenizer).__name__}}
    )
    kind = spec["model"]["type"]
    if kind not in ("BPE", "Unigram") or spec["model"].get("continuing_subword_prefix"):
        raise ModelError(
            f"model.vocabulary: the tokenizer of {config.model.base} is of the kind {kind}; pieces can be added "
            "to byte-pair encoding and unigram models of the tokenizers library. Leave model.vocabulary out."
        )
    new = list(dict.fromkeys(islice(corpus.texts(config.languages.new), _LEARNED)))
    known = (
        list(dict.fromkeys(islice(_protected(config, corpus, replay, taught), _PROTECTED)))
        if settings.protect
        else []
    )
    first = max([*tokenizer.get_vocab().values(), *(each["id"] for each in spec["added_tokens"])]) + 1
    if kind == "BPE":
        pieces = _learn_merges(spec, new, known, settings.add, first)
    else:
        pieces = _learn_unigrams(spec, backend, new, settings.add)
    pieces, extended, protected = _spare_known(backend, spec, pieces, known, settings.add, first)
    if not pieces:
        raise TrainingError(
            f"model.vocabulary: no piece of the new languages ({', '.join(config.languages.new)}) is left of "
            f"{len(new):,} texts: each occurs once, or would change the tokens of the known languages. Leave "
            "model.vocabulary out, or set protect: false."
        )
    loaded = _reload(tokenizer, extended, config.model.base)
    if any(loaded.convert_tokens_to_ids(piece) != first + n for n, (piece, *_) in enumerate(pieces)):
        raise ModelError(
            f"model.vocabulary: {type(tokenizer).__name__} of {config.model.base} does not load the pieces added "
            "to its tokenizer.json. Leave model.vocabulary out."
        )
    parts = tuple(tuple(token.id for token in backend.model.tokenize(piece)) for piece, *_ in pieces)
    record = {
        "asked": settings.add,
        "added": len(pieces),
        "init": settings.init,
        "median_occurrences": _median_occurrences(loaded, new, first, len(pieces)),
        "protected": {"texts": len(known), "unchanged": protected},
        "languages": {
            code: _fertility(tokenizer, loaded, code, corpus, heldout)
            for code in [*config.languages.new, *config.languages.known]
        },
    }
    return Extension(loaded, first, parts, record)


def _protected(config: Config, corpus: Corpus, replay: ReplayBuffer, taught: ReplayBuffer) -> Iterator[str]:
    """Texts whose tokens stay: prompts, examples, and sentences, at a line's start and after a space."""
    chosen = load_templates(config.instructions.templates, worded(config.instructions.objectives))
    yield from (template.prompt for templates in chosen.values() for template in templates)
    for example in taught.examples[: _PROTECTED // 8]:
        if (example.source or example.target) in config.languages.known:
            yield example.prompt
        if example.target in config.languages.known:
            yield from (example.answer, f" {example.answer}")
    for example in replay.examples[: _PROTECTED // 4]:
        yield from (example.prompt, example.answer, f" {example.answer}")
    for text in corpus.texts(config.languages.known):
        yield from (text, f" {text}")


def _median_occurrences(tokenizer: Any, texts: list[str], first: int, count: int) -> int:
    """How often a new piece occurs in the text that it was learned from: half of them more, half less."""
    seen = [0] * count
    for start in range(0, len(texts), 10_000):
        for ids in tokenizer(texts[start : start + 10_000], add_special_tokens=False)["input_ids"]:
            for token in ids:
                if token >= first:
                    seen[token - first] += 1
    return int(median(seen))


def _fertility(old: Any, new: Any, code: str, corpus: Corpus, heldout: Corpus) -> dict[str, float] | None:
    """Tokens a word before and after, on held-out sentences where the language has some, else on training text."""
    texts = list(heldout.texts([code])) or list(islice(corpus.texts([code]), _MEASURED))
    count = sum(len(words(text)) for text in texts)
    if not count:
        return None
    lengths = [sum(map(len, each(texts, add_special_tokens=False)["input_ids"])) / count for each in (old, new)]
    return {"before": round(lengths[0], 3), "after": round(lengths[1], 3)}


# A piece of the extended tokenizer: its text, and the pair that is merged into it, or its score.
Piece = tuple[str, tuple[str, str] | float | None]


# Byte-pair encoding


def _learn_merges(
    spec: Mapping[str, Any], new: list[str], known: list[str], count: int, first: int
) -> list[Piece]:
    """Letters that the vocabulary lacks, and merges of what stands side by side in new text, not in known text."""
    from tokenizers import Tokenizer

    vocabulary: dict[str, int] = spec["model"]["vocab"]
    pieces: list[Piece] = []
    byte_level = "ByteLevel" in json.dumps(spec["pre_tokenizer"])
    if not byte_level:
        letters = _letters(spec, new, vocabulary) - Counter(dict.fromkeys("".join(known), 1 << 60))
        pieces += [(letter, None) for letter, times in letters.most_common(count) if times >= _SEEN]
    tokenizer = Tokenizer.from_str(json.dumps(_extended(spec, pieces, first)))
    names = {number: name for name, number in tokenizer.get_vocab().items()}
    unmerged = {each["id"] for each in spec["added_tokens"]} | {
        vocabulary.get(spec["model"]["unk_token"] or "", -1)
    }
    unmerged |= {number for name, number in vocabulary.items() if len(name) == 6 and name.startswith("<0x")}

    def chunks(texts: list[str]) -> Iterator[tuple[int, ...]]:
        """The tokens of each stretch of text that the tokenizer merges within."""
        for start in range(0, len(texts), 10_000):
            for encoding in tokenizer.encode_batch(texts[start : start + 10_000], add_special_tokens=False):
                chunk: list[int] = []
                place: int | None = None
                for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
                    if chunk and (word != place or (not byte_level and names[token].startswith("▁"))):
                        yield tuple(chunk)
                        chunk = []
                    place = word
                    if token in unmerged:
                        yield tuple(chunk)
                        chunk = []
                    else:
                        chunk.append(token)
                yield tuple(chunk)

    forbidden = {pair for chunk in chunks(known) for pair in pairwise(chunk)}
    counted = Counter(chunk for chunk in chunks(new) if len(chunk) > 1)
    for left, right in merge_pairs(counted, names, forbidden, count - len(pieces), first + len(pieces)):
        pieces.append((names[left] + names[right], (names[left], names[right])))
    return pieces


def _letters(spec: Mapping[str, Any], texts: list[str], vocabulary: Mapping[str, int]) -> Counter[str]:
    """The characters that a vocabulary lacks, as often as they occur after its normalisation."""
    from tokenizers import Tokenizer

    normalizer = Tokenizer.from_str(json.dumps(spec)).normalizer
    normalised = (normalizer.normalize_str(text) if normalizer else text for text in texts)
    return Counter(letter for text in normalised for letter in text if letter not in vocabulary and letter > " ")


def merge_pairs(
    chunks: Mapping[tuple[int, ...], int], names: dict[int, str], forbidden: set[Pair], count: int, first: int
) -> list[Pair]:
    """Byte-pair encoding (Sennrich et al. 2016) on top of tokens: the most frequent pair becomes one, and so on.

    Args:
        chunks: tokens of stretches of text, and how often each occurs.
        names: by token its text; new tokens are added.
        forbidden: pairs that are not merged.
        count: how many pairs to merge at most.
        first: the number of the first new token.

    Returns:
        The pairs in the order of their merges; the i-th makes the token `first` + i.
    """
    sequences, times = [list(chunk) for chunk in chunks], list(chunks.values())
    totals: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, tokens in enumerate(sequences):
        for pair in pairwise(tokens):
            totals[pair] += times[number]
            places[pair].add(number)
    queue = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(queue)
    taken, merged = set(names.values()), list[Pair]()
    while queue and len(merged) < count:
        total, pair = heapq.heappop(queue)
        if -total < _SEEN:
            break
        name = names[pair[0]] + names[pair[1]]
        if total != -totals[pair] or pair in forbidden or name in taken:
            continue  # counted anew since, or would make an old token
        token = first + len(merged)
        merged.append(pair)
        names[token] = name
        taken.add(name)
        changed: set[Pair] = set()
        for number in places.pop(pair):
            before = sequences[number]
            after: list[int] = []
            at = 0
            while at < len(before):
                here = tuple(before[at : at + 2]) == pair
                after.append(token if here else before[at])
                at += 1 + here
            for sequence, sign in ((before, -1), (after, 1)):
                for each in pairwise(sequence):
                    totals[each] += sign * times[number]
                    changed.add(each)
                    if sign > 0:
                        places[each].add(number)
            sequences[number] = after
        for each in changed:
            heapq.heappush(queue, (-totals[each], each))
    return merged


# Unigram


def _learn_unigrams(spec: Mapping[str, Any], backend: Any, new: list[str], count: int) -> list[Piece]:
    """The pieces of a unigram model of new text (Kudo 2018) that the vocabulary lacks, the likeliest first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    old = {piece for piece, _ in spec["model"]["vocab"]} | {each["content"] for each in spec["added_tokens"]}
    model = Tokenizer(models.Unigram())
    if backend.normalizer is not None:
        model.normalizer = backend.normalizer
    model.pre_tokenizer = backend.pre_tokenizer or pre_tokenizers.Metaspace()
    size, found = int(_SPARE * count) + len(set("".join(new))), list[Piece]()
    for _ in range(3):  # until enough of them are new
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
        model.train_from_iterator(new, trainer)
        learned = json.loads(model.to_str())["model"]["vocab"]
        # Rounded: threads add in any order, and the last digits would decide how equal pieces are numbered.
        found = [(piece, round(score, 6)) for piece, score in learned if piece not in old and piece != "<unk>"]
        if len(found) >= _SPARE * count or len(learned) < 0.9 * size:
            break
        size *= 2
    return sorted(found, key=lambda each: (-float(each[1] or 0), each[0]))  # type: ignore[arg-type]


# Both


def _extended(spec: Mapping[str, Any], pieces: Sequence[Piece], first: int) -> dict[str, Any]:
    """A tokenizer's JSON with more pieces, with ids from `first` on."""
    model = dict(spec["model"])
    if model["type"] == "BPE":
        model["vocab"] = {**model["vocab"], **{piece: first + number for number, (piece, _) in enumerate(pieces)}}
        joined = bool(model["merges"]) and isinstance(model["merges"][0], str)
        merges = [list(how) for _, how in pieces if isinstance(how, tuple)]
        model["merges"] = [*model["merges"], *(" ".join(pair) if joined else pair for pair in merges)]
    else:
        vocabulary = list(model["vocab"])
        lowest = min(score for _, score in vocabulary)
        added = {each["id"]: each["content"] for each in spec["added_tokens"]}
        for number in range(len(vocabulary), first):  # ids are places in the list: of added tokens, and of none
            vocabulary.append([added.get(number, f"<unused_{number}>"), lowest])
        vocabulary += [[piece, max(lowest, float(score or 0))] for piece, score in pieces]  # type: ignore[arg-type]
        model["vocab"] = vocabulary
    return {**spec, "model": model}


def _spare_known(
    backend: Any, spec: Mapping[str, Any], pieces: list[Piece], known: list[str], count: int, first: int
) -> tuple[list[Piece], dict[str, Any], int]:
    """Leaves out pieces until no known text changes its tokens: the pieces, the tokenizer, the texts unchanged."""
    from tokenizers import Tokenizer

    def encoded(tokenizer: Any) -> list[list[int]]:
        return [each.ids for each in tokenizer.encode_batch(known, add_special_tokens=False)]

    before, left = encoded(backend), pieces
    while True:
        chosen = left[:count]
        extended = _extended(spec, chosen, first)
        after = encoded(Tokenizer.from_str(json.dumps(extended)))
        changed = [ids for ids, old in zip(after, before, strict=True) if ids != old]
        used = {token - first for ids in changed for token in ids if token >= first}
        if not used:
            return chosen, extended, len(known) - len(changed)
        gone = {chosen[number][0] for number in used}
        kept = list[Piece]()
        for piece, how in left:  # without what is made of them, too
            if piece in gone or (isinstance(how, tuple) and gone.intersection(how)):
                gone.add(piece)
            else:
                kept.append((piece, how))
        left = kept


def _reload(tokenizer: Any, spec: Mapping[str, Any], base: str) -> PreTrainedTokenizerBase:
    """A tokenizer as transformers loads it from its files with another tokenizer.json."""
    with tempfile.TemporaryDirectory(prefix="instructalign-") as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).iterdir():
            if path.suffix in (".model", ".spm") or path.name in ("vocab.json", "merges.txt", "vocab.txt"):
                path.unlink()  # what the extended tokenizer.json stands for
        (Path(folder) / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
        loaded: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder)
    loaded.name_or_path, loaded.deprecation_warnings = base, tokenizer.deprecation_warnings
    return loaded
