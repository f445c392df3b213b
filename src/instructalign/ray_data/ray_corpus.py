"""The corpora of a configuration, read, cleaned, split and checked on a Ray cluster, as rows in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign import __version__
from instructalign.config import Config, FilterConfig
from instructalign.data import ContaminationCheck, Corpus, ItemIndex, check_texts
from instructalign.data.contamination import Contamination, ItemText, Overlap, counts_without, rows_to_drop
from instructalign.data.corpus import (
    BEYOND,
    LARGE,
    check_entries,
    check_kept,
    check_languages,
    corpus_names,
    last_taken,
    rank,
    rank_number,
    side_counts,
    smallest,
    stored_languages,
    take_out_duplicates,
)
from instructalign.data.filters import Cleaner, Removed, resolve
from instructalign.data.shared_sentences import Keys, choose_heldout_of_both, find_placeholders, text_keys
from instructalign.errors import RunFolderError
from instructalign.files import atomic, text_hash, write_json, write_text
from instructalign.languages import is_synthetic
from instructalign.mixture.training_data import (
    corpus_files,
    corpus_languages,
    log_contamination,
    optional_languages,
)
from instructalign.progress import Progress, silent
from instructalign.randomness import digest_key
from instructalign.ray_data.arrow_rows import ArrowRows, read_part, write_index, write_part
from instructalign.ray_data.ray_cleaning import (
    CleanedBlock,
    clean_blocks,
    drop_placeholders,
    find_duplicates,
    part_items,
    parts_of,
)
from instructalign.ray_data.ray_session import map_unordered
from instructalign.types import Counts, ParallelRow

_MANIFEST = "corpus.json"
_UNFINISHED = "unfinished"
_SIDES = ("train", "heldout")
_FORMAT = 3  # of the manifest


def prepare_corpus_on_ray(
    config: Config, folder: Path, check: ContaminationCheck | None = None, progress: Progress = silent
) -> tuple[Corpus, Corpus, Contamination]:
    """What `mixture.training_data.prepare_corpus` gives, made on the Ray cluster of the session.

    Args:
        config: the run's configuration.
        folder: where the rows are kept; every machine of the cluster must see it under this name, as well as
            the corpora. One that was filled from the same corpora in the same way is read as it is.
        check: the test items to look for.
        progress: reports each step.

    Returns:
        The rows to train on, the held-out ones, and the test items found among the former.

    Raises:
        RunFolderError: the folder holds something else.
        DataError: as `mixture.training_data.prepare_corpus`.
    """
    check = check or ContaminationCheck()
    folder = folder.resolve()
    made_of = _made_of(config, check)
    if not _is_made(folder, made_of):
        _make(config, folder, check, made_of, progress)
    made = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    removed = {name: Removed(**each) for name, each in made["removed"].items()}
    train, heldout = (
        Corpus(ArrowRows(folder / name), Counts(**made[name]["counts"]), made[name]["languages"], removed)
        for name in _SIDES
    )
    found = Contamination(**made["contamination"])
    found.overlaps = [
        Overlap(**{**each, "item": ItemText(**each["item"])}) for each in made["contamination"]["overlaps"]
    ]
    log_contamination("corpora", found, check)
    return train, heldout, found


@contextmanager
def rows_folder(out: Path, store: Path | None) -> Iterator[Path]:
    """The folder for the rows: the one to keep them in, or one beside the result that ends with the block."""
    if store is not None:
        yield store
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".rows", dir=out.parent.resolve()) as folder:
        yield Path(folder) / "rows"


def _make(config: Config, folder: Path, check: ContaminationCheck, made_of: str, progress: Progress) -> None:
    """Fills the folder; the manifest is written last."""
    write_text(folder / _UNFINISHED, "The rows of this folder are not complete; it can be removed.\n")
    blocks = folder / "blocks"
    blocks.mkdir()
    languages = stored_languages(corpus_languages(config), config.corpora)
    cleaned, counts, removed = _clean(config, languages, blocks, progress)
    settings = resolve(config.filter)
    kind = settings.get("duplicates", "")
    placeholders = []
    if "placeholders" in settings:
        placeholders = _take_out_placeholders(cleaned, folder, languages, kind, counts, removed)
    found = set().union(*(each.languages for each in cleaned))
    parts = parts_of(cleaned)
    write_index(blocks, languages, [each.part for each in cleaned if each.rows])

    progress("looking for duplicates", 0, 0, "")
    similarity = find_duplicates(kind, blocks, parts)
    with ExitStack() as stack:
        rejects = None
        if config.filter.rejects:
            rejects = stack.enter_context(atomic(config.filter.rejects))
            for each in cleaned:
                rejects.write((blocks / f"{each.stem}.rejects").read_bytes())
            rejects.writelines(placeholders)
        cleaner = Cleaner(FilterConfig(preset="none"), rejects)
        cleaner.removed = removed
        take_out_duplicates(ArrowRows(blocks), similarity, counts, cleaner)
    check_languages(languages, found, removed, optional_languages(config))

    progress("splitting the rows", 0, 0, "")
    items, shared = part_items(parts), {"folder": folder, "alive": similarity == 0, "languages": languages}
    shared["held"] = _held(config, items, shared, sorted(found))
    last = _last(config, items, shared)
    contamination = Contamination()
    if check.index is not None:
        progress("checking the training data for test items", 0, 0, "")
        overlaps = map_unordered(items, _check_part, last=last, index=check.index, **shared)
        for _, here in sorted(overlaps, key=lambda each: each[0]):
            contamination.checked += here.checked
            contamination.overlaps.extend(here.overlaps)
    contaminated = rows_to_drop(contamination, check.action)
    for name in _SIDES:
        (folder / name).mkdir()
    written = map_unordered(items, _write_part, last=last, contaminated=contaminated, **shared)
    sides = [each for _, each in sorted(written, key=lambda each: each[0])]
    beyond = sum(each["beyond"] for each in sides)
    rows = {name: sum(each[name]["rows"] for each in sides) for name in _SIDES}

    # The counts as `Corpus.split`, `Corpus.limit` and `check_corpus` give them.
    kept = {"train": counts, "heldout": Counts()}
    if shared["held"].any():
        kept["train"] = side_counts(counts, rows["train"] + beyond, "held out", rows["heldout"])
        kept["heldout"] = side_counts(counts, rows["heldout"], "kept for training", rows["train"] + beyond)
    if config.instructions.sentences is not None:
        kept["train"] = side_counts(kept["train"], rows["train"], BEYOND, beyond)
    if contaminated:
        left = sum(part["rows"] for each in sides for part in each["train"]["parts"])
        kept["train"] = counts_without(kept["train"], contamination, rows["train"] - left)
    made: dict[str, Any] = {"made_of": made_of}
    for name in _SIDES:
        write_index(folder / name, languages, [part for each in sides for part in each[name]["parts"]])
        spoken = found if rows[name] > LARGE else set().union(*(each[name]["languages"] for each in sides))
        made[name] = {"counts": asdict(kept[name]), "languages": sorted(spoken)}
    shutil.rmtree(blocks)
    made["removed"] = {name: asdict(each) for name, each in removed.items()}
    made["contamination"] = asdict(contamination)
    write_json(folder / _MANIFEST, made)
    (folder / _UNFINISHED).unlink()


def _clean(
    config: Config, languages: Sequence[str], folder: Path, progress: Progress
) -> tuple[list[CleanedBlock], Counts, dict[str, Removed]]:
    """Every block as it was cleaned, in the corpora's order; the counts; and what each filter took out."""
    entries = [entry for entry in check_entries(config.corpora) if entry.is_for(languages)]
    names = corpus_names(entries)
    cleaned: list[CleanedBlock] = []
    rows = 0
    progress("cleaning", 0, 0, "")
    for each in clean_blocks(entries, names, languages, config.filter, folder):
        cleaned.append(each)
        rows += each.counts.read
        progress("cleaning", rows, 0, "")
    cleaned.sort(key=lambda each: (each.entry, each.block))
    by_entry = [Counts() for _ in entries]
    removed: dict[str, Removed] = {}
    for each in cleaned:
        by_entry[each.entry].add(each.counts)
        for name, here in each.removed.items():
            removed.setdefault(name, Removed()).add(here)
    counts = Counts()
    for entry, name, own in zip(entries, names, by_entry, strict=True):
        check_kept(entry, name, own)
        counts.add(own)
    return cleaned, counts, removed


Last = tuple[bytes, bytes | None, int]
"""The key of the ranks of a limited corpus; the last rank that is taken, None takes all; and in how many languages
a row must have text to be limited: two where some have."""


def _held(
    config: Config, items: Sequence[dict[str, Any]], shared: dict[str, Any], languages: Sequence[str]
) -> NDArray[np.bool_]:
    """Which rows are held out, as `Corpus.split` has it [rows].

    The keys come together here, one language at a time: 8 bytes for each row.

    Raises:
        DataError: the corpus has fewer sentences than are to be held out.
    """
    alive: NDArray[np.bool_] = shared["alive"]
    held = np.zeros(len(alive), dtype=bool)
    if config.instructions.heldout != 0:
        nothing = {**shared, "held": held}

        ranks = _gather(items, _rank_numbers, key=digest_key(config.seed, "heldout"), **nothing)
        columns = (_gather(items, _text_keys, language=code, **nothing) for code in languages)
        alone = _gather(items, _monolingual, **nothing).astype(bool)
        held[alive] = choose_heldout_of_both(ranks, columns, config.instructions.heldout, alone)
    return held


def _gather(items: Sequence[dict[str, Any]], work: Callable[..., tuple[int, Keys]], **shared: Any) -> Keys:
    """The numbers that a task finds for the rows of a part, of all parts [rows]."""
    found = sorted(map_unordered(items, work, **shared), key=lambda each: each[0])
    return np.concatenate([np.empty(0, np.uint64), *(keys for _, keys in found)])


def _take_out_placeholders(
    cleaned: Sequence[CleanedBlock],
    folder: Path,
    languages: Sequence[str],
    kind: str,
    counts: Counts,
    removed: dict[str, Removed],
) -> list[bytes]:
    """Takes placeholders out of the blocks, as `read_corpora` does; gives the lines of the file of rejects."""
    parts = parts_of(cleaned)
    items, rows = part_items(parts), sum(part.rows for part in parts)
    every = {"alive": np.ones(rows, dtype=bool), "held": np.zeros(rows, dtype=bool)}
    columns = [
        _gather(items, _text_keys, language=code, folder=folder, languages=languages, **every)
        for code in languages
    ]
    found = find_placeholders(columns)
    if not any(each.any() for each in found):
        return []
    shared = {"folder": folder / "blocks", "languages": languages, "found": found, "kind": kind}
    by_stem = {each.stem: each for each in cleaned}
    rejects = []
    for stem, left, lines in sorted(map_unordered(items, drop_placeholders, **shared), key=lambda each: each[0]):
        block = by_stem[stem]
        block.rows, block.part, block.languages = left.rows, left.part, left.languages
        counts.add(left.counts)
        for name, here in left.removed.items():
            removed.setdefault(name, Removed()).add(here)
        rejects.append(lines)
    return rejects


def _last(config: Config, items: Sequence[dict[str, Any]], shared: dict[str, Any]) -> Last:
    """The end of a limited corpus, as `Corpus.limit` has it.

    Raises:
        DataError: the corpus has fewer sentences than are to be taken.
    """
    sentences, key = config.instructions.sentences, digest_key(config.seed, "sentences")
    if sentences is None:
        return key, None, 1
    alone = _gather(items, _monolingual, **{**shared, "held": np.zeros(len(shared["alive"]), dtype=bool)})
    least = 1 if alone.all() else 2
    found = map_unordered(items, _rank_part, key=key, count=sentences, least=least, **shared)
    return key, last_taken(smallest(chain.from_iterable(found), sentences), sentences), least


def _rows(
    stem: str, begin: int, rows: int, folder: Path, alive: Any, held: Any, languages: Sequence[str]
) -> Iterator[tuple[ParallelRow, bool]]:
    """The rows of a part that are no duplicates, and whether they are held out."""
    here = zip(alive[begin : begin + rows].tolist(), held[begin : begin + rows].tolist(), strict=True)
    part = read_part(folder / "blocks" / f"{stem}.arrow", languages)
    return ((row, out) for row, (kept, out) in zip(part, here, strict=True) if kept)


def _rank_numbers(*, key: bytes, **part: Any) -> tuple[int, Keys]:
    """Where a part begins, and the rank of each of its rows."""
    return part["begin"], np.array([rank_number(row.id, key) for row, _ in _rows(**part)], dtype=np.uint64)


def _text_keys(*, language: str, **part: Any) -> tuple[int, Keys]:
    """Where a part begins, and the key of each of its rows' texts in one language."""
    rows = [row for row, _ in _rows(**part)]
    return part["begin"], next(text_keys(rows, len(rows), [language]))


def _translations(row: ParallelRow) -> int:
    return sum(not is_synthetic(code) for code in row.texts)


def _monolingual(**part: Any) -> tuple[int, Keys]:
    """Where a part begins, and 1 for each of its rows that is monolingual text."""
    return part["begin"], np.array([_translations(row) < 2 for row, _ in _rows(**part)], dtype=np.uint64)


def _rank_part(*, key: bytes, count: int, least: int, **part: Any) -> list[bytes]:
    """The smallest ranks of a part's rows that are limited and not held out."""
    rows = (row for row, out in _rows(**part) if not out and _translations(row) >= least)
    return smallest((rank(row.id, key) for row in rows), count)


def _side(row: ParallelRow, out: bool, last: Last) -> int:
    """0 for training, 1 for held out, 2 for neither."""
    key, end, least = last
    return 1 if out else 2 * (end is not None and _translations(row) >= least and rank(row.id, key) > end)


def _check_part(*, stem: str, last: Last, index: ItemIndex, **part: Any) -> tuple[str, Contamination]:
    trained = ((row.id, row.texts.values()) for row, out in _rows(stem, **part) if _side(row, out, last) == 0)
    return stem, check_texts(trained, index)


def _write_part(*, stem: str, last: Last, contaminated: set[str], **part: Any) -> tuple[str, dict[str, Any]]:
    """Writes a part's rows to both sides.

    Returns:
        The part's stem; and for each side its entries in the index (one, or none where no row is left), how many
        rows there were before any was left out, and their languages; and how many rows are on neither side.
    """
    sides: tuple[list[ParallelRow], ...] = [], [], []
    for row, out in _rows(stem, **part):
        sides[_side(row, out, last)].append(row)
    written: dict[str, Any] = {"beyond": len(sides[2])}
    for rows, name, dropped in zip(sides[:2], _SIDES, (contaminated, set()), strict=True):
        kept = [row for row in rows if row.id not in dropped]
        path = part["folder"] / name / f"{stem}.arrow"
        parts = [write_part(path, kept, part["languages"])] if kept else []
        spoken = {code for row in rows for code in row.texts}
        written[name] = {"parts": parts, "rows": len(rows), "languages": spoken}
    return stem, written


def _is_made(folder: Path, made_of: str) -> bool:
    """Whether a folder holds what is to be made; what was left unfinished in it is removed.

    Raises:
        RunFolderError: it holds something else.
    """
    if not folder.exists():
        return False
    path = folder / _MANIFEST
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8"))["made_of"] == made_of:
            return True
        raise RunFolderError(
            f"{folder} holds the rows of other corpora, or cleaned or split otherwise, or the files have "
            "changed since. Give another folder, or remove this one."
        )
    strangers = sorted(path.name for path in folder.iterdir())
    if strangers and _UNFINISHED not in strangers:
        raise RunFolderError(
            f"{folder} is not empty and holds no stored rows (found: {', '.join(strangers[:8])}). "
            "Give an empty or new folder."
        )
    for name in ("blocks", *_SIDES):
        shutil.rmtree(folder / name, ignore_errors=True)
    return False


def _made_of(config: Config, check: ContaminationCheck) -> str:
    """A hash of everything that the rows depend on: the corpora's files, and what is done to them."""
    plain = config.to_dict()
    plain["filter"].pop("rejects", None)
    tests = [check.action, check.index.digest() if check.index else ""]
    split = [config.instructions.heldout, config.instructions.sentences, config.seed]
    corpora = [plain["corpora"], plain["filter"], corpus_languages(config), corpus_files(config)]
    return text_hash([__version__, _FORMAT, corpora, tests, split])
