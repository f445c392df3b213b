"""The corpora of a configuration, read, cleaned, split and checked on a Ray cluster, as rows in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from instructalign import __version__
from instructalign.config import Config, FilterConfig
from instructalign.data import ContaminationCheck, Corpus, ItemIndex, check_texts
from instructalign.data.contamination import Contamination, ItemText, Overlap, counts_without, rows_to_drop
from instructalign.data.corpus import (
    BEYOND,
    LARGE,
    MOST_HELDOUT,
    check_entries,
    check_kept,
    check_languages,
    corpus_names,
    first_kept,
    last_taken,
    rank,
    side_counts,
    smallest,
    take_out_duplicates,
    usual_heldout,
)
from instructalign.data.filters import Cleaner, Removed, resolve
from instructalign.errors import RunFolderError
from instructalign.files import atomic, text_hash, write_json, write_text
from instructalign.mixture.training_data import (
    corpus_files,
    corpus_languages,
    log_contamination,
    optional_languages,
)
from instructalign.progress import Progress, silent
from instructalign.randomness import digest_key
from instructalign.ray_data.arrow_rows import ArrowRows, read_part, write_index, write_part
from instructalign.ray_data.ray_cleaning import CleanedBlock, clean_blocks, find_duplicates, part_items, parts_of
from instructalign.ray_data.ray_session import map_unordered
from instructalign.types import Counts, ParallelRow

_MANIFEST = "corpus.json"
_UNFINISHED = "unfinished"
_SIDES = ("train", "heldout")
_FORMAT = 2  # of the manifest


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
    languages = corpus_languages(config)
    cleaned, counts, removed = _clean(config, languages, blocks, progress)
    found = set().union(*(each.languages for each in cleaned))
    parts = parts_of(cleaned)
    write_index(blocks, languages, [each.part for each in cleaned if each.rows])

    progress("looking for duplicates", 0, 0, "")
    similarity = find_duplicates(resolve(config.filter).get("duplicates", ""), blocks, parts)
    with ExitStack() as stack:
        rejects = None
        if config.filter.rejects:
            rejects = stack.enter_context(atomic(config.filter.rejects))
            for each in cleaned:
                rejects.write((blocks / f"{each.stem}.rejects").read_bytes())
        cleaner = Cleaner(FilterConfig(preset="none"), rejects)
        cleaner.removed = removed
        take_out_duplicates(ArrowRows(blocks), similarity, counts, cleaner)
    check_languages(languages, found, removed, optional_languages(config))

    progress("splitting the rows", 0, 0, "")
    items, shared = part_items(parts), {"folder": folder, "alive": similarity == 0, "languages": languages}
    sieve = _sieve(config, items, shared)
    contamination = Contamination()
    if check.index is not None:
        progress("checking the training data for test items", 0, 0, "")
        overlaps = map_unordered(items, _check_part, sieve=sieve, index=check.index, **shared)
        for _, here in sorted(overlaps, key=lambda each: each[0]):
            contamination.checked += here.checked
            contamination.overlaps.extend(here.overlaps)
    contaminated = rows_to_drop(contamination, check.action)
    for name in _SIDES:
        (folder / name).mkdir()
    written = map_unordered(items, _write_part, sieve=sieve, contaminated=contaminated, **shared)
    sides = [each for _, each in sorted(written, key=lambda each: each[0])]
    beyond = sum(each["beyond"] for each in sides)
    rows = {name: sum(each[name]["rows"] for each in sides) for name in _SIDES}

    # The counts as `Corpus.split`, `Corpus.limit` and `check_corpus` give them.
    kept = {"train": counts, "heldout": Counts()}
    if sieve.limit:
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
    entries = check_entries(config.corpora)
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


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which side a sentence is on, as `Corpus.split` and then `Corpus.limit` have it.

    Attributes:
        key, limit: sentences of a lower rank by this key are held out.
        key_taken, last: of the others, those of a higher rank by this key are left out; None takes all.
    """

    key: bytes
    limit: bytes = b""
    key_taken: bytes = b""
    last: bytes | None = None

    def side(self, id: str) -> int:
        """0 for training, 1 for held out, 2 for neither."""
        if rank(id, self.key) < self.limit:
            return 1
        return 2 * (self.last is not None and rank(id, self.key_taken) > self.last)


def _sieve(config: Config, items: Sequence[dict[str, Any]], shared: dict[str, Any]) -> Sieve:
    """The sides of a configuration.

    Raises:
        DataError: the corpus has fewer sentences than are to be held out, or taken.
    """
    heldout, sentences = config.instructions.heldout, config.instructions.sentences
    sieve = Sieve(digest_key(config.seed, "heldout"), key_taken=digest_key(config.seed, "sentences"))

    def ranks(key: bytes, count: int) -> list[bytes]:
        found = map_unordered(items, _rank_part, sieve=sieve, key=key, count=count, **shared)
        return smallest(chain.from_iterable(found), count)

    if heldout is None:
        heldout = usual_heldout(ranks(sieve.key, 10 * MOST_HELDOUT))
    if heldout:
        sieve = replace(sieve, limit=first_kept(ranks(sieve.key, heldout + 1), heldout))
    if sentences is not None:
        sieve = replace(sieve, last=last_taken(ranks(sieve.key_taken, sentences), sentences))
    return sieve


def _rows(
    stem: str, begin: int, rows: int, folder: Path, alive: Any, languages: Sequence[str]
) -> Iterator[ParallelRow]:
    """The rows of a part that are no duplicates."""
    here = alive[begin : begin + rows].tolist()
    part = read_part(folder / "blocks" / f"{stem}.arrow", languages)
    return (row for row, kept in zip(part, here, strict=True) if kept)


def _rank_part(*, sieve: Sieve, key: bytes, count: int, **part: Any) -> list[bytes]:
    """The smallest ranks of a part's rows that are not held out yet."""
    return smallest((rank(row.id, key) for row in _rows(**part) if sieve.side(row.id) != 1), count)


def _check_part(*, stem: str, sieve: Sieve, index: ItemIndex, **part: Any) -> tuple[str, Contamination]:
    trained = ((row.id, row.texts.values()) for row in _rows(stem, **part) if sieve.side(row.id) == 0)
    return stem, check_texts(trained, index)


def _write_part(*, stem: str, sieve: Sieve, contaminated: set[str], **part: Any) -> tuple[str, dict[str, Any]]:
    """Writes a part's rows to both sides.

    Returns:
        The part's stem; and for each side its entries in the index (one, or none where no row is left), how many
        rows there were before any was left out, and their languages; and how many rows are on neither side.
    """
    sides: tuple[list[ParallelRow], ...] = [], [], []
    for row in _rows(stem, **part):
        sides[sieve.side(row.id)].append(row)
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
    plain = yaml.safe_load(config.to_yaml())
    plain["filter"].pop("rejects", None)
    tests = [check.action, check.index.digest() if check.index else ""]
    split = [config.instructions.heldout, config.instructions.sentences, config.seed]
    corpora = [plain["corpora"], plain["filter"], corpus_languages(config), corpus_files(config)]
    return text_hash([__version__, _FORMAT, corpora, tests, split])
