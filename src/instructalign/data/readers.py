"""The reader layer: records of CSV/TSV, Parquet and Arrow files and of Hub datasets, each with its place.

Corpora (`data.formats.tabular`), replay data (`mixture.replay_sources`) and evaluation tasks
(`evaluation.task_sources`) all read through here, so that a file is opened, parsed and explained in one way, and
an option has one meaning. JSON lines are `files.read_jsonl`; every text file is opened by `files.open_bytes`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import StringConstraints

from instructalign.data.formats import language_named
from instructalign.errors import DataError, first_line
from instructalign.file_kinds import COMPRESSED
from instructalign.files import MAX_LINE_BYTES, check_file, hidden, notice, read_jsonl, read_lines
from instructalign.hub_access import hub_problem, prepare_hub
from instructalign.randomness import permuted

Delimiter = Annotated[str, StringConstraints(min_length=1, max_length=1)]
"""The character between two columns, as an option of a reader."""

Record = tuple[int, dict[str, Any]]
"""The line number (or else the running number) of a record, from 1, and its fields."""


_MOST = 0.9  # share
SAMPLE = 200  # lines at a table's start that show how it is written
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
EXCEL_HINT = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_RULE = re.compile(r"(?=.*[|+])(?=.*(?:--|:-|-:))[\s|:+-]+")
"""A line of dashes in a table of Markdown, or in one that a program drew: `| --- | :-: |`."""
_CELL_END = re.compile(r"(?<!\\)\|")


def check_escape(options: Mapping[str, object]) -> str:
    """What is wrong with `escape` and `quoting` together; empty if nothing is."""
    if not options.get("escape") or options.get("quoting"):
        return ""
    return f"escape: {options['escape']!r} has no meaning without quoting: true; set that, or leave it out"


def read_delimited(
    path: Path, delimiter: str | None, quoting: bool, escape: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record of a CSV or TSV file, with the number of the record's first line.

    Args:
        path: the file, plain or compressed. Excel's first line `sep=;` is not a record.
        delimiter: the character between two columns; None finds it: commas, semicolons, tabs or vertical bars.
        quoting: whether quotation marks around a field are not part of it, so that it may contain delimiters and
            line ends. Without, every character but the delimiter and the line end is text.
        escape: with quoting, the character before a quotation mark that is text (a backslash, as MySQL writes it;
            an unquoted \\N is then an empty field); by default such a quotation mark is doubled.

    Returns:
        An empty list for an empty line.

    Raises:
        DataError: the file is missing or not UTF-8, has another delimiter, or a quotation mark is left open.
    """
    if problem := check_escape({"escape": escape, "quoting": quoting}):
        raise DataError(f"{path}: {problem}.")
    lines = read_lines(path)
    first: list[tuple[int, str]] = []
    while (
        len(first) < SAMPLE
        and sum(len(line) for _, line in first) < MAX_LINE_BYTES
        and (line := next(lines, None))
    ):
        first.append(line)
    if first and (hint := EXCEL_HINT.fullmatch(first[0][1])):
        delimiter = delimiter or hint[1]
        del first[0]
    sample = [line for _, line in first]
    likely = likely_delimiter([line for line in sample if not _RULE.fullmatch(line)], quoting, escape)
    ruled = (delimiter or likely) == "|" and any(map(_RULE.fullmatch, sample))
    if delimiter is None:
        delimiter = likely or ","
        if delimiter != "," and not ruled:
            notice(
                f"{path}: its columns are separated by {_DELIMITERS[delimiter]}.",
                f"To say so, set {_option(delimiter)}",
            )
    elif likely and sample and not any(delimiter in line for line in sample):
        raise DataError(
            f"{path}: its columns are not separated by {_DELIMITERS.get(delimiter, repr(delimiter))} but by "
            f"{_DELIMITERS[likely]}. Set format: csv and {_option(likely)}"
        )
    numbered = chain(first, lines)
    if ruled:
        notice(f"{path}: a table as in Markdown; its rows of dashes are left out.")
        for number, text in numbered:
            if not _RULE.fullmatch(text):
                cells = [cell.replace("\\|", "|").strip() for cell in _CELL_END.split(text)]
                yield number, cells if text else []
        return
    if not quoting:
        if _looks_quoted([field for line in sample for field in line.split(delimiter)]):
            notice(
                f"{path}: fields are in quotation marks, which become part of the texts.",
                "If they were added by the program that wrote the file, such as Excel, set quoting: true.",
            )
        for number, text in numbered:
            yield number, text.split(delimiter) if text else []
        return
    before = first[0][0] - 1 if first else 0
    latest = ""

    def clean() -> Iterator[str]:
        nonlocal latest
        null = (
            re.compile(rf"(?<![^{re.escape(delimiter)}])\\N(?![^{re.escape(delimiter)}])")
            if escape == "\\"
            else None
        )
        for _, latest in numbered:
            line = null.sub("", latest) if null else latest
            # Before Python 3.11, csv refuses NUL. A lone surrogate is as invalid, and treated as NUL is.
            yield line.replace("\0", "\ud800") + "\n"

    # `"a", "b"`: with spaces between a delimiter and a quotation mark, the mark is one all the same.
    spaced = re.compile(rf"(?:^|{re.escape(delimiter)}) +{_QUOTED.pattern} *(?:$|{re.escape(delimiter)})")
    spaces = delimiter != " " and any(spaced.search(line) for line in sample)
    reader = csv.reader(clean(), delimiter=delimiter, escapechar=escape, strict=True, skipinitialspace=spaces)
    while True:
        start = before + reader.line_num + 1
        try:
            yield start, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            advice = "A quotation mark may be left open; if quotation marks are plain text, set quoting: false."
            if escape is None and any('\\"' in line for line in (latest, *sample)):
                advice = 'Quotation marks in the text are escaped by a backslash; set escape: "\\\\".'
            raise DataError(
                f"{path}:{start}: not CSV ({error}; detected in line {before + reader.line_num}). {advice}"
            ) from None


def likely_delimiter(sample: list[str], quoting: bool = True, escape: str | None = None) -> str:
    """What separates most lines, below the fewest titles, into equally many columns; empty if nothing does."""
    found: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        try:
            options: dict[str, Any] = {} if quoting else {"quoting": csv.QUOTE_NONE}
            lines = (line.replace("\0", "") for line in sample)
            widths = [
                len(row) for row in csv.reader(lines, delimiter=delimiter, escapechar=escape, **options) if row
            ]
        except csv.Error:  # a very long field
            continue
        titles = next((place for place, width in enumerate(widths) if width > 1), 0)
        widths = widths[titles:] if 2 * titles < len(widths) else []
        if widths and widths[0] > 1 and widths.count(widths[0]) >= _MOST * len(widths):
            found[delimiter] = titles
    if found:
        return min(found, key=found.__getitem__)
    return next((each for each in _DELIMITERS if sample and each in sample[0]), "")


def _looks_quoted(fields: list[str]) -> bool:
    """Whether a program put quotation marks around fields: around all, or those that need them."""
    marked = [field for field in fields if '"' in field]
    quoted = [field for field in marked if _QUOTED.fullmatch(field)]
    if not quoted or len(quoted) < _MOST * len(marked):
        return False
    commas = [field for field in fields if "," in field]
    return (
        any('""' in field[1:-1] for field in quoted)
        or len(quoted) == len([field for field in fields if field])
        or (len(commas) > 2 and set(commas) <= set(quoted))
    )


def _option(delimiter: str) -> str:
    shown = "\\t" if delimiter == "\t" else delimiter
    return f'delimiter: "{shown}".'


def read_json(path: Path) -> Iterator[Record]:
    """The objects of JSON lines or of a JSON array; or of one object that holds them all.

    That may hold a list of objects under some key; objects by their ids, which are then their field `_id`; or by
    key, as by language, the values of all rows, in a list or by the id of the row.

    Raises:
        DataError: as `files.read_jsonl`; or the lists of one object differ in length.
    """
    records = read_jsonl(path)
    head = list(islice(records, 2))
    rows = _rows_within(head[0][1], path) if len(head) == 1 else []
    if rows:
        ids = " The key of each is its field _id." if "_id" in rows[0] else ""
        notice(f"{path}: one JSON object; the {len(rows):,} rows in it are read.{ids}")
    yield from enumerate(rows, start=1) if rows else chain(head, records)


def _rows_within(record: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The rows that an object holds in a list, by id, or column by column; empty if it is a row itself."""
    inner = {key: value for key, value in record.items() if isinstance(value, Mapping) and value}
    lists = {key: value for key, value in record.items() if isinstance(value, list)}
    if len(inner) == 1 and not lists:
        return _rows_within(next(iter(inner.values())), path)
    objects = [value for value in lists.values() if value and all(isinstance(each, dict) for each in value)]
    if any({"role", "from"} & each[0].keys() for each in objects):  # the turns of a conversation
        return []
    if len(objects) == 1:
        return objects[0]
    if len(inner) > 1 and len(inner) == len(record):
        fields = {
            key: {name: field_of(value, name) for name in field_names(value)} for key, value in inner.items()
        }
        names = list(dict.fromkeys(name for each in fields.values() for name in each))
        # By column, the ids within are numbers, or the keys without are languages; translations may lack some.
        by_language = all(map(language_named, fields)) and not all(map(language_named, names))
        if all(map(str.isdecimal, names)) or by_language:
            return [
                {"_id": name, **{key: each[name] for key, each in fields.items() if name in each}}
                for name in names
            ]
        if any(all(name in each for each in fields.values()) for name in names):  # the rows have a field in common
            return [{"_id": key, **value} for key, value in inner.items()]
        return []
    if len(lists) < 2 or objects:
        return []
    if len({*map(len, lists.values())}) > 1:
        listed = ", ".join(f"{key} has {len(value)}" for key, value in lists.items())
        raise DataError(f"{path}: a list of texts for each language, which differ in length: {listed}.")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def read_parquet(path: Path) -> Iterator[Record]:
    """The records of a Parquet file, or of all `*.parquet` of a folder by name; or of `.arrow` (IPC) files.

    Raises:
        DataError: a file is missing or damaged, or a folder contains none.
    """
    from pyarrow import ArrowException

    number = 0
    for file in files_in(path, "parquet", "arrow"):
        check_file(file)
        try:
            for batch in _arrow_batches(file):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        except (ArrowException, OSError, ValueError) as error:
            kind = "Arrow" if file.suffix == ".arrow" else "Parquet"
            raise DataError(f"{file}: not {kind}, or damaged ({error}). Get the file again.") from None


def _arrow_batches(file: Path) -> Iterator[Any]:
    """The records of a file, up to 1024 at a time."""
    if file.suffix == ".arrow":
        from pyarrow import ipc, memory_map

        with memory_map(str(file)) as mapped, ipc.open_file(mapped) as reader:
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                yield from (batch.slice(start, 1024) for start in range(0, len(batch), 1024))
    else:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=1024)


def read_hub(
    name: str,
    subset: str | None,
    advice: str,
    *,
    class_names: bool = False,
    some: int | None = None,
    **options: Any,
) -> Iterator[Record]:
    """The records of a Hub dataset, or of a local folder in the Hub's layout, through `datasets`.

    Args:
        name: the dataset, a folder, or a file type (`json`, `parquet`) whose files are given by `data_files`.
        subset: the dataset's configuration.
        advice: the end of the error message: what else the user can do.
        class_names: replace the numbers of class labels by their names.
        some: how many records to read at most: of a streamed dataset of several files, the same number from each.
        options: `split`, `revision`, `data_files`, `streaming`, as in `datasets.load_dataset`.

    Raises:
        DataError: the dataset cannot be loaded or read on; the message has the library's first line.
    """
    if not Path(name).exists() and ("/" in name or "hf://" in str(options.get("data_files"))):
        prepare_hub()  # not for files elsewhere, which a name such as `json` stands for
    from datasets import ClassLabel

    try:
        records: Any = _load(name, subset, **options)
        features: Mapping[str, Any] = (class_names and records.features) or {}
        classes = {key: feature for key, feature in features.items() if isinstance(feature, ClassLabel)}
        for number, record in enumerate(records if some is None else _some_of_each(records, some), start=1):
            for key, labels in classes.items():
                if record[key] is not None and record[key] >= 0:
                    record[key] = labels.int2str(record[key])
            yield number, record
    except Exception as error:
        files = options.get("data_files") if "/" not in name else None
        where = files if isinstance(files, str) or files is None else ", ".join(files)
        raise hub_error(name, error, advice, where, subset, options.get("split")) from None


def _some_of_each(records: Any, count: int) -> Iterator[dict[str, Any]]:
    """At most `count` records: the same number of each file; what a short file lacks comes from those after it.

    The order of the files is drawn, not alphabetical, but the same for every run: so are the examples held out.
    """
    files = getattr(records, "num_shards", 1)
    for place in range(files):
        file = permuted(place, files, 0, "files of a dataset")
        part = records.shard(num_shards=files, index=file) if files > 1 else records
        for record in islice(part, -(-count // (files - place))):
            yield record
            count -= 1


def _load(name: str, subset: str | None, **options: Any) -> Any:
    """A dataset; of one with a loading script, which `datasets` refuses, its files or the Hub's conversion."""
    from datasets import load_dataset

    try:
        return load_dataset(name, subset, **options)
    except Exception:  # that scripts are refused, or, once another subset is in the cache, that this one is not
        if not _has_script(name):
            raise
        split, pattern, revision = (options.pop(key, None) for key in ("split", "data_files", "revision"))
        if pattern is None and revision is None:
            pattern, revision = {split: converted_files(name, subset, split)}, CONVERTED
        patterns = pattern if isinstance(pattern, Mapping) else {split: pattern}
        place = f"hf://datasets/{name}" + (f"@{quote(revision, safe='')}" if revision else "")
        files = {key: [f"{place}/{file}" for file in _listed(value)] for key, value in patterns.items()}
        kinds = {_KINDS.get(Path(file).suffix) for some in files.values() for file in some}
        if len(kinds) != 1 or None in kinds:
            raise
    return load_dataset(*kinds, split=split, data_files=files, **options)


_KINDS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _has_script(dataset: str) -> bool:
    """Whether a Hub dataset has a loading script and a card without subsets, so that `datasets` refuses it."""
    listing = _hub_listing(dataset, None)
    return listing is not None and not listing[0] and f"{dataset.rpartition('/')[2]}.py" in listing[1]


CONVERTED = "refs/convert/parquet"
"""The branch with the Hub's own conversion of a dataset to Parquet, by subset and split, without a card."""


def converted_files(dataset: str, subset: str | None, split: str | None) -> list[str]:
    """The files of the Hub's conversion of a dataset with a loading script; none for other datasets.

    Args:
        dataset: its name.
        subset: its configuration; `default` if None.
        split: its split; all if None.
    """
    converted = _hub_listing(dataset, CONVERTED) if _has_script(dataset) else None
    return [
        file
        for file in (converted or ((), ()))[1]
        if fnmatch(file, f"{subset or 'default'}/{split or '*'}/*.parquet")
    ]


FLORES_PLUS = "openlanguagedata/flores_plus"

_RENAMED_SUBSETS = {  # what FLORES+ calls languages that FLORES-200 gave another code
    FLORES_PLUS: {
        "est_Latn": "ekk_Latn",
        "grn_Latn": "gug_Latn",
        "kon_Latn": "ktu_Latn",
        "tgl_Latn": "fil_Latn",
        "zho_Hans": "cmn_Hans",
        "zho_Hant": "cmn_Hant",
    }
}


def renamed_subsets(dataset: str) -> Mapping[str, str]:
    """By the code that a test set of FLORES-200 has for a language, the one that a Hub dataset has instead."""
    return _RENAMED_SUBSETS.get(dataset, {})


@lru_cache
def _hub_listing(dataset: str, revision: str | None) -> tuple[frozenset[str], tuple[str, ...]] | None:
    """The subsets that a dataset's card names, and its files; None for a local folder or without an answer.

    Only the Hub itself is asked: the local cache knows what was downloaded, not what there is.
    """
    if Path(dataset).exists():
        return None
    prepare_hub()
    from huggingface_hub import HfApi

    try:
        about = HfApi().dataset_info(dataset, revision=revision, timeout=10)
    except Exception:  # the read that follows raises it in the words of `hub_error`
        return None
    configs = getattr(about.card_data, "configs", None) or []
    subsets = frozenset(str(each["config_name"]) for each in configs if "config_name" in each)
    return subsets, tuple(file.rfilename for file in about.siblings or [])


def hub_lacks(dataset: str, subset: str | None, data_files: str | None = None, revision: str | None = None) -> str:
    """Why a Hub dataset has nothing to read for a subset or file pattern; empty if it has, or if unknown."""
    listing = _hub_listing(dataset, revision)
    if listing is None:
        return ""
    subsets, files = listing
    if data_files is not None and not any(fnmatch(file, data_files) for file in files):
        return f"the dataset {dataset} has no file {data_files}"
    if data_files is None and subsets and subset not in subsets:
        return f"the dataset {dataset} has no subset {subset}"
    if data_files is None and revision is None and converted_files(dataset, "*", None):
        return "" if converted_files(dataset, subset, None) else f"the dataset {dataset} has no subset {subset}"
    return ""


def hub_error(name: str, error: Exception, advice: str, *about: str | None) -> DataError:
    """What to raise where the Hub's libraries fail: their errors (of httpx, fsspec, datasets …) share no base."""
    where = ", ".join(part for part in about if part)
    reason = hub_problem(error)
    if not reason:
        reason = (
            f"{first_line(error).rstrip('.')}. Check its name, the network and your access token "
            "(`hf auth login`; a gated dataset also requires its terms to be accepted on its page)"
        )
    return DataError(f"the dataset {name}{f' ({where})' if where else ''} cannot be loaded: {reason}; {advice}")


def files_in(path: Path, *endings: str) -> list[Path]:
    """A file itself, or a folder's files of the first of these endings that it contains, by name.

    Files with the ending also count where that of a compression follows; hidden files do not.

    Raises:
        DataError: the folder contains none; the message lists what it contains.
    """
    if not path.is_dir():
        return [path]
    for ending in endings:
        for compressed in ("", *COMPRESSED):
            if files := sorted(each for each in path.glob(f"*.{ending}{compressed}") if not hidden(each)):
                return files
    found = ", ".join(sorted(child.name for child in path.iterdir())[:12]) or "nothing"
    raise DataError(f"{path} contains no {' or '.join(f'*.{each}' for each in endings)} file; found: {found}.")


def field_of(record: Any, key: str) -> Any:
    """A field of a record; dots lead into nested objects (`translation.en`). None where there is none."""
    if key in record:
        return record[key]
    for part in key.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(part)
    return record


def field_names(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of a record as `field_of` takes them, those within nested objects with their path."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from field_names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
