"""The corpora of a configuration, read, cleaned and divided on a cluster, as rows in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from instructalign import __version__
from instructalign.config import Config, FilterConfig
from instructalign.data import Corpus, Guard
from instructalign.data.contamination import Contamination, ItemText, Leak, count_out, to_drop
from instructalign.data.corpus import (
    BEYOND,
    LARGE,
    check_entries,
    check_kept,
    check_languages,
    corpus_names,
    side_counts,
    take_out,
)
from instructalign.data.deduplication import Marks
from instructalign.data.filters import Cleaner, Removed, resolve
from instructalign.errors import RunFolderError
from instructalign.files import atomic, text_hash, write_json, write_text
from instructalign.mixture.training_data import check_guarded, languages_of, optional_of, warn_of
from instructalign.progress import Progress, silent
from instructalign.ray_data import cleaning
from instructalign.ray_data.cleaning import Cleaned, Part, clean
from instructalign.ray_data.partition import Divider, Side
from instructalign.ray_data.row_files import StoredRows, write_index
from instructalign.types import Counts

MANIFEST = "corpus.json"
UNFINISHED = "unfinished"
_FOLDERS = ("blocks", "train", "heldout")


def read_rows(
    config: Config, folder: Path, guard: Guard | None = None, progress: Progress = silent
) -> tuple[Corpus, Corpus, Contamination]:
    """What `mixture.build.read_guarded` gives, made on the Ray cluster of the session.

    Args:
        config: the run's configuration.
        folder: where the rows are kept; every machine of the cluster has to see it under this name, as well as
            the corpora. One that was filled from the same corpora in the same way is read as it is.
        guard: the test items to look for.
        progress: told what is under way.

    Returns:
        The rows to train on, the held-out ones, and the test items found among the former.

    Raises:
        RunFolderError: the folder holds something else.
        DataError: as `mixture.build.read_guarded`.
    """
    guard = check_guarded(config, guard)
    folder = folder.resolve()
    made_of = _made_of(config, guard)
    if not _is_made(folder, made_of):
        _make(config, folder, guard, made_of, progress)
    train, heldout, found = _load(folder)
    warn_of("corpora", found, guard)
    return train, heldout, found


@contextmanager
def place(out: Path, store: Path | None) -> Iterator[Path]:
    """The folder for the rows: the one to keep them in, or one beside the result that ends with the block."""
    if store is not None:
        yield store
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".rows", dir=out.parent.resolve()) as folder:
        yield Path(folder) / "rows"


def _make(config: Config, folder: Path, guard: Guard, made_of: str, progress: Progress) -> None:
    """Fills the folder; the manifest is written last."""
    write_text(folder / UNFINISHED, "The rows of this folder are not complete; it can be removed.\n")
    (folder / "blocks").mkdir()
    languages = languages_of(config)
    cleaned = _clean(config, languages, folder / "blocks", progress)
    counts, removed, found = _account(config, cleaned, languages)
    parts = _parts(cleaned)
    write_index(folder / "blocks", languages, [each.part for each in cleaned if each.rows])
    progress("looking for duplicates", 0, 0, "")
    marks = _take_out_duplicates(config, folder / "blocks", cleaned, parts, counts, removed)
    check_languages(languages, found, removed, optional_of(config))
    progress("dividing the rows", 0, 0, "")
    divider = Divider(folder, parts, ~marks.marked, languages, config.instructions, config.seed)
    contamination = Contamination()
    if guard.index is not None:
        progress("looking for test items in the training data", 0, 0, "")
        contamination = divider.leaks(guard.index)
    train, held, beyond = divider.write(to_drop(contamination, guard.action))
    kept, away = _sides_counted(config, counts, train.rows, held.rows, beyond)
    if guard.action == "drop" and contamination.leaks:
        kept = count_out(kept, contamination, train.rows - sum(part["rows"] for part in train.parts))
    shutil.rmtree(folder / "blocks")
    sides = {"train": _side(kept, train, found), "heldout": _side(away, held, found)}
    about = {name: asdict(each) for name, each in removed.items()}
    made = {"made_of": made_of, **sides, "removed": about, "contamination": asdict(contamination)}
    write_json(folder / MANIFEST, made)
    (folder / UNFINISHED).unlink()


def _clean(config: Config, languages: Sequence[str], folder: Path, progress: Progress) -> list[Cleaned]:
    """Every block as it was cleaned, in the corpora's order."""
    entries = check_entries(config.corpora)
    done: list[Cleaned] = []
    rows = 0
    progress("cleaning", 0, 0, "")
    for each in clean(entries, corpus_names(entries), languages, config.filter, folder):
        done.append(each)
        rows += each.counts.read
        progress("cleaning", rows, 0, "")
    return sorted(done, key=lambda each: (each.entry, each.block))


def _account(
    config: Config, cleaned: Sequence[Cleaned], languages: Sequence[str]
) -> tuple[Counts, dict[str, Removed], set[str]]:
    """What was read and dropped, what each filter took out, and the languages there are, over all blocks."""
    entries = check_entries(config.corpora)
    by_entry = [Counts() for _ in entries]
    removed: dict[str, Removed] = {}
    for each in cleaned:
        by_entry[each.entry].add(each.counts)
        for name, here in each.removed.items():
            removed.setdefault(name, Removed()).add(here)
    counts = Counts()
    for entry, name, own in zip(entries, corpus_names(entries), by_entry, strict=True):
        check_kept(entry, name, own)
        counts.add(own)
    return counts, removed, set().union(*(each.languages for each in cleaned))


def _parts(cleaned: Sequence[Cleaned]) -> list[Part]:
    """The parts of the blocks that have rows left."""
    left = [each for each in cleaned if each.rows]
    begins = accumulate((each.rows for each in left), initial=0)
    return [Part(each.stem, begin, each.rows) for each, begin in zip(left, begins, strict=False)]


def _take_out_duplicates(
    config: Config,
    folder: Path,
    cleaned: Sequence[Cleaned],
    parts: Sequence[Part],
    counts: Counts,
    removed: dict[str, Removed],
) -> Marks:
    """Marks the duplicates, counts them, and completes the file of rejects."""
    kind = resolve(config.filter).get("duplicates", "")
    marks = cleaning.find(kind, folder, parts) if kind else Marks(sum(part.rows for part in parts))
    with ExitStack() as stack:
        rejects = None
        if config.filter.rejects:
            rejects = stack.enter_context(atomic(config.filter.rejects))
            for each in cleaned:
                rejects.write((folder / f"{each.stem}.rejects").read_bytes())
        cleaner = Cleaner(FilterConfig(preset="none"), rejects)
        cleaner.removed = removed
        take_out(StoredRows(folder), marks, counts, cleaner)
    return marks


def _sides_counted(config: Config, counts: Counts, train: int, held: int, beyond: int) -> tuple[Counts, Counts]:
    """The counts of the rows to train on and of those held out, as `Corpus.split` and `Corpus.limit` give them."""
    kept, away = counts, Counts()
    if config.instructions.heldout:
        kept = side_counts(counts, train + beyond, "held out", held)
        away = side_counts(counts, held, "kept for training", train + beyond)
    if config.instructions.sentences is not None:
        kept = side_counts(kept, train, BEYOND, beyond)
    return kept, away


def _side(counts: Counts, side: Side, languages: set[str]) -> dict[str, Any]:
    return {"counts": asdict(counts), "languages": sorted(languages if side.rows > LARGE else side.languages)}


def _load(folder: Path) -> tuple[Corpus, Corpus, Contamination]:
    """The corpora of a folder that is complete."""
    made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    removed = {name: Removed(**each) for name, each in made["removed"].items()}
    corpora = [
        Corpus(StoredRows(folder / name), Counts(**made[name]["counts"]), made[name]["languages"], removed)
        for name in ("train", "heldout")
    ]
    found = Contamination(**made["contamination"])
    found.leaks = [Leak(**{**each, "found": ItemText(**each["found"])}) for each in made["contamination"]["leaks"]]
    return corpora[0], corpora[1], found


def _is_made(folder: Path, made_of: str) -> bool:
    """Whether a folder holds what is to be made; what was left unfinished in it is removed.

    Raises:
        RunFolderError: it holds something else.
    """
    if not folder.exists():
        return False
    path = folder / MANIFEST
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8"))["made_of"] == made_of:
            return True
        raise RunFolderError(
            f"{folder} holds the rows of other corpora, or cleaned or divided otherwise, or the files have "
            "changed since. Give another folder, or remove this one."
        )
    strangers = sorted(path.name for path in folder.iterdir())
    if strangers and UNFINISHED not in strangers:
        raise RunFolderError(
            f"{folder} is not empty and holds no stored rows (found: {', '.join(strangers[:8])}). "
            "Give an empty or new folder."
        )
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    return False


def _made_of(config: Config, guard: Guard) -> str:
    """A hash of everything that the rows depend on: the corpora's files, and what is done to them."""
    plain = yaml.safe_load(config.to_yaml())
    plain["filter"].pop("rejects", None)
    files = [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        for entry in config.corpora
        for path in _paths(entry.options)
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    tests = [guard.action, guard.index.digest() if guard.index else ""]
    divided = [config.instructions.heldout, config.instructions.sentences, config.seed]
    return text_hash([__version__, plain["corpora"], plain["filter"], languages_of(config), files, tests, divided])


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _paths(inner)
