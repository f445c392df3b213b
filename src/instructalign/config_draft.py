"""`instructalign init --from FILE...`: looks into a user's files and drafts a configuration that runs.

Files with columns are looked into here; of the other formats, the reader itself says which languages a file has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from instructalign.config import Config, FilterConfig
from instructalign.config_file import build_config
from instructalign.data import Corpus, read_corpora
from instructalign.data.formats import MissingLanguagesError, is_language, language_named
from instructalign.data.formats.spreadsheets import filled_sheets
from instructalign.data.formats.tabular import columns_by_code
from instructalign.data.readers import field_names, field_of, read_delimited, read_json, read_parquet
from instructalign.errors import ConfigError, DataError
from instructalign.files import collected_notices, read_lines
from instructalign.languages import SIDES, canonical, name_in
from instructalign.plugins import FORMATS
from instructalign.training.learning_rates import WARMUP_SHARE, parameters_in_name, usual_learning_rate
from instructalign.types import Counts

_SAMPLE = 200  # rows looked at
_NAME_WORDS = 2  # of a column, at most
_PASSES = 20  # over the corpus, in all directions together
_USUAL_SIZE = 5e9  # parameters of a base whose name does not say them
_TOY_RATE = 1e-3  # learning rate of a model that is too small for what is usual
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_BY_ENDING = {
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls"), "xlsx"),
    ".ods": "ods",
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
    **dict.fromkeys((".parquet", ".arrow"), "parquet"),
    ".tmx": "tmx",
    **dict.fromkeys((".xlf", ".xliff", ".sdlxliff"), "xliff"),
    ".flextext": "flextext",
    ".lift": "lift",
    ".zip": "opus",
    **dict.fromkeys((".po", ".mo"), "po"),
    ".srt": "srt",
    ".vtt": "vtt",
    ".ass": "ass",
    **dict.fromkeys((".sfm", ".usfm"), "usfm"),
    ".usx": "usx",
    ".eaf": "eaf",
}
_PATHS = ("path", "files", "sentences", "links")
_ONE_FILE_A_LANGUAGE = ("moses", "po", "srt", "vtt", "ass", "usfm", "usx")
_WIDELY_KNOWN = (
    *("eng", "ind", "spa", "fra", "por", "arb", "ara", "zho", "hin", "rus", "swh", "deu", "ita", "jpn", "kor"),
    *("tur", "vie", "ben", "urd", "nld", "pol", "fas"),
)
"""Languages that a base model is taken to know, the likeliest pivot first."""
_SKIPPED = "-"
"""In `--languages`, a column that is left out."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration made of a user's files.

    Attributes:
        text: the YAML file, with comments.
        notes: what was found and assumed, a sentence each.
    """

    text: str
    notes: tuple[str, ...]


def draft_config(
    files: Sequence[Path],
    *,
    folder: Path,
    languages: Sequence[str] = (),
    known: Sequence[str] = (),
    model: str = "bigscience/bloomz-560m",
) -> Draft:
    """Drafts a configuration that trains on some files and tests on held-out sentences of theirs.

    Args:
        files: text in any registered format; line-aligned files, subtitles and the like together. A table with one
            column of text, or a text file alone, is monolingual.
        folder: where the configuration will be, to which its paths are relative.
        languages: codes or names, where the files do not say them: in the order of the columns of text, or of the
            files; `-` for one that is left out.
        known: those of the languages that the base model knows; by default the widely spoken ones. Where all files
            are monolingual, languages that they need not have.
        model: the base model.

    Raises:
        ConfigError: a language is none, or the files do not say their languages and neither does `languages`.
        DataError: a file cannot be read.
    """
    given = [each if each == _SKIPPED else _code(each, "--languages") for each in languages]
    if twice := [code for code in given if code != _SKIPPED and given.count(code) > 1]:
        raise ConfigError(
            [
                f"--languages: {twice[0]} is named twice. Name it once, with {_SKIPPED} for the other column, and "
                "give the other translations an entry of their own under corpora in the configuration"
            ]
        )
    entries, notes = _entries(files, given)
    codes = [code for code in given if code != _SKIPPED]
    codes = codes or list(dict.fromkeys(code for entry in entries for code in languages_of(entry)))
    knows = [_code(each, "--known") for each in known]
    if all(len(entry.get("languages", ())) == 1 for entry in entries):
        knows = knows or ["eng"]
        new = codes = [code for code in codes if code not in knows]
        if not codes:
            raise _no_languages(files[0], f"{', '.join(knows)} is known to the model, and there is no other")
    elif len(codes) < 2:
        raise _no_languages(files[0], f"found {', '.join(codes) or 'none'}")
    else:
        knows, new = _groups(codes, knows)
    corpus = read_corpora(entries, codes, FilterConfig())
    named = [f"{name_in(code, 'eng')} ({code})" for code in corpus.languages]
    notes.append(f"{len(corpus):,} rows in {', '.join(named)}")
    notes.append(f"taken as known to the model: {', '.join(knows)}; to learn: {', '.join(new)} (or give --known)")
    return Draft(_write(_settings(entries, knows, new, corpus, model, folder), notes), tuple(notes))


def _code(text: str, option: str) -> str:
    try:
        return canonical(text.strip())
    except DataError as error:
        raise ConfigError([f"{option}: {error}"]) from None


def _no_languages(place: object, why: str) -> ConfigError:
    return ConfigError(
        [
            f"{place}: its languages cannot be told ({why}). Name one for each, in this order, by code or name, "
            f"and {_SKIPPED} for one to leave out: --languages eng,jav"
        ]
    )


# What the files are


def format_of(path: Path) -> str:
    """The format of a file or folder by its name, and where that does not say by its first line."""
    if path.is_dir():
        for ending, kind in ((".sfm", "usfm"), (".usfm", "usfm"), (".usx", "usx")):
            if any(each.suffix.lower() == ending for each in path.iterdir()):
                return kind
        raise DataError(f"{path}: a folder without .sfm, .usfm or .usx files. Give the files themselves.")
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    name = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    kind = _BY_ENDING.get(name.suffix.lower(), "")
    if kind == "eaf":
        raise DataError(
            f"{path}: ELAN needs the tier of each language named; see `instructalign formats show eaf`, and write "
            "it into the configuration of `instructalign init`."
        )
    if kind not in ("", "usfm", "csv", "tsv"):
        return kind
    first = next((line for _, line in read_lines(path)), "")
    if first.startswith("\\") and not first.startswith("\\id "):  # .sfm may be either
        return "toolbox"
    if kind and re.fullmatch(r"\d+\t([a-z]{3}\t.+|\d+)", first):
        return "tatoeba"
    return kind or ("tsv" if "\t" in first else "csv" if first.startswith("|") else "moses")


def _entries(files: Sequence[Path], languages: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """An entry of `corpora` for each file, or for files that belong together; and notes on them."""
    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    together: dict[str, list[Path]] = {}
    for path in files:
        kind = format_of(path)
        if kind in (*_ONE_FILE_A_LANGUAGE, "tatoeba"):
            together.setdefault(kind, []).append(path)
        elif kind in ("csv", "tsv", "xlsx", "ods", "jsonl", "parquet"):
            entry, left_out = _table(path, kind, languages)
            if len(entry["columns"]) == 1:
                entry["languages"] = [*entry["columns"]]
            entries.append(entry)
            named = ", ".join(f"{code} from column {name}" for code, name in entry["columns"].items())
            others = f"; not read: {', '.join(left_out)} (another translation needs an entry of its own)"
            notes.append(f"{path}: {named}{others if left_out else ''}")
        elif kind == "toolbox":
            entries.append(_toolbox(path, languages))
            named = ", ".join(f"{code} from marker {marker}" for code, marker in entries[-1]["markers"].items())
            notes.append(f"{path}: {named}")
        else:
            entries.append({"format": kind, "path": str(path)})
    for kind, paths in together.items():
        if kind == "tatoeba":
            links = [path for path in paths if re.match(r"\d+\t\d+$", next(read_lines(path))[1])]
            sentences = [str(path) for path in paths if path not in links]
            if len(links) != 1 or not sentences:
                raise DataError(f"{paths[0]}: of Tatoeba, give the file or files of sentences and one of links.")
            entries.append({"format": kind, "sentences": sentences, "links": str(links[0])})
            continue
        if kind == "moses" and len(paths) == 1:
            code, path = _language_of_text(paths[0], languages), paths[0]
            entries.append({"format": "text", "path": str(path), "languages": [code]})
            notes.append(f"{path}: monolingual text in {code}")
            continue
        by_language = _files_by_language(paths, languages, 1 if kind == "po" else 2)
        notes.append(f"{kind}: {', '.join(f'{path} is {code}' for code, path in by_language.items())}")
        entries.append({"format": kind, "files": {code: str(path) for code, path in by_language.items()}})
    return entries, notes


def _toolbox(path: Path, languages: list[str]) -> dict[str, Any]:
    """The entry of a Toolbox file: a dictionary or a text, by the usual markers (MDF and the Toolbox manual)."""
    seen = {line[1:].split(None, 1)[0] for _, line in read_lines(path) if re.match(r"\\\w", line)}
    record = "lx" if "lx" in seen else "ref"
    usual = ("lx", "ge", "gn", "gr") if record == "lx" else ("tx", "t", "ft", "fe", "fn", "f")
    markers = [marker for marker in usual if marker in seen]
    if len(markers) < 2 or len(markers) != len(languages):
        raise _no_languages(path, f"its markers are {', '.join(markers or sorted(seen))}")
    chosen = {code: marker for code, marker in zip(languages, markers, strict=True) if code != _SKIPPED}
    several = {"repeated": "each"} if record == "lx" else {}
    return {"format": "toolbox", "path": str(path), "markers": chosen, "record": record, **several}


def _language_of_text(path: Path, languages: list[str]) -> str:
    """The language of a text file alone: the only one of `languages`, or a part of its name (`news.jav.txt`)."""
    if len(languages) == 1 and languages[0] != _SKIPPED:
        return languages[0]
    parts = [part for part in path.name.split(".") if f".{part.lower()}" not in (*_PACKED, *_BY_ENDING, ".txt")]
    codes = [code for part in reversed(parts) if (code := _language_named(part))]
    if not codes:
        raise _no_languages(path, "no part of its name is one, as in news.jav.txt")
    return codes[0]


def _files_by_language(paths: list[Path], languages: list[str], least: int) -> dict[str, Path]:
    """The file of each language, by the parts of the files' names, or by the order of `languages`."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.name
        while Path(name).suffix.lower() in (*_PACKED, *_BY_ENDING, ".txt"):  # some are codes: txt is Citak
            name = Path(name).stem
        parts = re.split(r"[.\s]+", name) + re.split(r"[._\-\s]+", name)
        codes = [code for part in reversed(parts) if (code := language_named(part)) and code not in SIDES]
        chosen = [code for code in codes if (not languages or code in languages) and code not in found]
        if chosen:
            found[chosen[0]] = path
    if len(found) == len(paths) >= least:
        return found
    if len(languages) == len(paths) >= least:
        return dict(zip(languages, paths, strict=True))
    listed = ", ".join(path.name for path in paths)
    raise _no_languages(listed, f"{len(found)} of {len(paths)} file names hold a language")


def languages_of(entry: Mapping[str, Any]) -> list[str]:
    """The languages of a corpus: those of its columns or files, or those that its reader finds in it."""
    named = entry.get("languages") or entry.get("columns") or entry.get("files") or entry.get("markers")
    if named:
        return [*(["eng"] if entry["format"] == "po" and "eng" not in named else []), *named]
    checked = FORMATS.check(entry["format"], entry)
    try:
        for _ in FORMATS.get(entry["format"])([], Counts(), **checked.options):
            pass
    except MissingLanguagesError as error:
        return list(dict.fromkeys(canonical(code) for code in error.present if is_language(code)))
    return []


# Tables: which column is which language


def columns_by_language(path: Path, kind: str) -> tuple[dict[str, str], list[str]] | None:
    """By language the column that its code or name is the name of, and all names; None for a file without columns.

    Args:
        path: the file.
        kind: its format, as `format_of` says it.
    """
    if kind in ("jsonl", "parquet"):
        records = islice((read_json if kind == "jsonl" else read_parquet)(path), _SAMPLE)
        tops = [list(dict.fromkeys(key for _, record in records for key in field_names(record)))]
    elif kind in ("csv", "tsv"):
        tops = [
            cells for _, cells in islice(read_delimited(path, "\t" if kind == "tsv" else None, kind == "csv"), 1)
        ]
    elif kind in ("xlsx", "ods"):
        tops = [cells for rows in filled_sheets(path).values() for cells in rows[:50]]
    else:
        return None
    found = [{_language_named(name.strip()): name.strip() for name in names} for names in tops] or [{}]
    best = max(range(len(found)), key=lambda number: len(found[number].keys() - {""}))
    return {code: name for code, name in found[best].items() if code}, [
        each.strip() for each in (tops or [[]])[best]
    ]


def _language_named(name: str) -> str:
    if name.lower() in ("id", "no", *SIDES):  # the row's, and not Indonesian or Norwegian; a side
        return ""
    return language_named(name)


def _table(path: Path, kind: str, languages: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The entry of a file with a column, or key, for each language; and other columns of text, by name."""
    if kind in ("jsonl", "parquet"):
        records = [record for _, record in islice((read_json if kind == "jsonl" else read_parquet)(path), _SAMPLE)]
        keys = list(dict.fromkeys(key for record in records for key in field_names(record)))
        rows = [[str(field_of(record, key) or "") for key in keys] for record in records]
        try:  # as the reader would: codes, also those in an object `translation`
            columns: dict[str, Any] = dict(columns_by_code(keys, None, path))
            columns = {code: key for code, key in columns.items() if key in _text_columns(keys, rows)}
        except DataError:
            columns = {}
        columns = columns if len(columns) > 1 and not languages else _columns(keys, rows, languages)
        if not columns:
            raise _no_languages(path, f"its keys are {', '.join(keys) or 'none'}")
        left_out = [key for key in _text_columns(keys, rows) if key not in columns.values()]
        return {"format": kind, "path": str(path), "columns": columns}, left_out
    if kind in ("csv", "tsv"):
        records_of = read_delimited(path, "\t" if kind == "tsv" else None, kind == "csv")
        sheets = {"": [cells for _, cells in islice(records_of, _SAMPLE)]}
    else:
        sheets = {name: rows[:_SAMPLE] for name, rows in filled_sheets(path).items()}
    best: dict[str, Any] = {}
    others: list[str] = []
    for sheet, rows in sheets.items():
        named = {"sheet": sheet} if len(sheets) > 1 else {}
        for number, header in enumerate(rows[:50], start=1):
            columns = _columns(header, rows[number:], languages, by_name=True)
            if len(columns) > max(1, len(best.get("columns", ()))):
                best = {"format": kind, "path": str(path), **named, "columns": columns}
                names = _text_columns([cell.strip() for cell in header], rows[number:])
                others = [name for name in names if name and name not in columns.values()]
    if best:
        return best, others
    rows = next(iter(sheets.values()))
    # A title has a cell to itself; the row that names the columns, or the first one of text, has several.
    first = next((number for number, cells in enumerate(rows) if sum(map(bool, cells)) > 1), 0)
    top = [cell.strip() for cell in rows[first]] if rows else []
    text = [int(place) for place in _text_columns([str(number) for number in range(len(top))], rows[first + 1 :])]
    if len(text) == 1 and not languages and (code := _language_named(top[text[0]])):
        languages = [code]
    if len(text) > len(languages):  # remarks are in few rows, translations in most
        most = [each for each in text if _share_filled(each, rows[first + 1 :]) > 0.5]
        text = most if len(most) == len(languages) else text
    if not languages or len(text) != len(languages) or len(sheets) > 1:
        listed = ", ".join(top[each] or f"(column {each + 1})" for each in text)
        raise _no_languages(path, f"{len(text)} columns of text: {listed}" if text else "no column of text")
    chosen = {code: each for code, each in zip(languages, text, strict=True) if code != _SKIPPED}
    numbers = {code: each + 1 for code, each in chosen.items()}
    entry: dict[str, Any] = {"format": kind, "path": str(path), "columns": numbers}
    if any(len(top[each].split()) > _NAME_WORDS for each in text):  # a sentence, not a name
        return {**entry, "header": 0 if kind in ("xlsx", "ods") else False}, []
    by_name = {code: top[each] for code, each in chosen.items()}
    if all(by_name.values()) and all(top.count(name) == 1 for name in by_name.values()):
        return {**entry, "columns": by_name}, []
    return {**entry, "header": first + 1} if kind in ("xlsx", "ods") else entry, []


def _share_filled(column: int, rows: Sequence[Sequence[str]]) -> float:
    return sum(len(cells) > column and bool(cells[column].strip()) for cells in rows) / max(1, len(rows))


def _columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], languages: list[str], by_name: bool = False
) -> dict[str, Any]:
    """By language its column, of those with text whose name is a language's code or name.

    Args:
        header: the columns' names.
        rows: some rows below it.
        languages: those wanted, in the order of the columns where names do not tell; all if empty.
        by_name: whether to go by names alone.
    """
    names = [name.strip() for name in header]
    text = _text_columns(names, rows)
    found: dict[str, str] = {}
    for name in text:
        code = "" if name.lower() in SIDES else language_named(name)
        if code and names.count(name) == 1 and (not languages or code in languages):
            found.setdefault(code, name)
    if len(found) > 1 or by_name or len(found) == len(text) == 1:
        return found
    if len(languages) != len(text):
        return {}
    return {code: name for code, name in zip(languages, text, strict=True) if code != _SKIPPED}


def _text_columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The columns that hold text: most cells have letters and differ, unlike numbers and labels."""
    found = []
    cells_of = [[cell.strip() for cell in column if cell.strip()] for column in _transposed(len(names), rows)]
    for name, cells in zip(names, cells_of, strict=True):
        lettered = [cell for cell in cells if any(map(str.isalpha, cell))]
        if name.lower() == "id" and sum(" " in cell for cell in cells) < 0.5 * len(cells):
            continue  # ids, and not Indonesian
        if cells and len(lettered) > 0.5 * len(cells) and len(set(cells)) > 0.5 * len(cells):
            found.append(name)
    return found


def _transposed(width: int, rows: Iterable[Sequence[str]]) -> list[list[str]]:
    columns: list[list[str]] = [[] for _ in range(width)]
    for cells in rows:
        for column, cell in zip(columns, cells, strict=False):
            column.append(cell)
    return columns


# What is made of them


def _groups(codes: list[str], known: list[str]) -> tuple[list[str], list[str]]:
    """The languages that the model is taken to know, and those to learn: at least one of each."""
    if unknown := [code for code in known if code not in codes]:
        raise ConfigError([f"--known: {', '.join(unknown)} is not among the languages found: {', '.join(codes)}"])
    known = known or [code for code in _WIDELY_KNOWN if code in codes] or codes[:1]
    if len(known) == len(codes):
        known = known[:-1] if len(known) > 1 else known
    new = [code for code in codes if code not in known]
    return known, new


def _settings(
    entries: list[dict[str, Any]], known: list[str], new: list[str], corpus: Corpus, model: str, folder: Path
) -> dict[str, Any]:
    """The keys of the configuration, with steps and lengths by the corpus, and a learning rate by the method."""

    def place(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: place(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [place(inner) for inner in value]
        path = Path(value).resolve()
        if Path(value).is_absolute() and not path.is_relative_to(folder.resolve()):
            return str(Path(value))  # as it was given; on Windows there is no way from one drive to another
        return os.path.relpath(path, folder.resolve())

    placed = [{key: place(value) if key in _PATHS else value for key, value in entry.items()} for entry in entries]
    local = model == "toy" or Path(model).exists()
    base = place(model) if local and model != "toy" else model
    parameters = parameters_in_name(Path(model).name)
    adapter = parameters is not None and parameters >= 1e9
    lengths = sorted(sum(len(text.encode()) for text in row.texts.values()) for row in islice(corpus, 5000))
    longest = lengths[int(0.99 * (len(lengths) - 1))]
    rows = len(corpus) - min(100, len(corpus) // 10)
    replay = _replay(model, rows)
    batch = 32 if rows >= 32 else 8
    share = 0.5 if replay else 0.0
    steps = max(50, min(20_000, ceil(_PASSES * rows * len(new) / batch / (1 - share))))
    alone = [len(entry.get("languages", ())) == 1 for entry in entries]
    objectives = {**({} if all(alone) else {"tlm": 1, "mt": 1}), **({"lm": 1} if any(alone) else {})}
    evaluation: dict[str, Any] = {"tasks": ["heldout_translation"], "prompts": ["en-1"]}
    if all(alone):
        objectives["mlm"] = 1
        evaluation = {"tasks": ["heldout_text"]}
    settings: dict[str, Any] = {
        "model": {"base": f"./{base}" if local and model != "toy" and not Path(base).is_absolute() else base},
        "languages": {"known": known, "new": new},
        "corpora": placed,
        "instructions": {"objectives": objectives},
        "replay": replay,
        "training": {
            "steps": steps,
            "batch_size": batch,
            "learning_rate": usual_learning_rate(parameters or _USUAL_SIZE, adapter=adapter) or _TOY_RATE,
            "warmup": ceil(WARMUP_SHARE * steps),
            # three texts in a denoising example, two bytes in a token, and the template
            "max_length": min(1024, max(512 if replay else 256, 64 * ceil((1.5 * longest / 2 + 100) / 64))),
        },
        "evaluation": evaluation,
    }
    if adapter:
        settings["model"]["adapter"] = {"type": "lora"}
    if local:  # its tokenizer and its configuration are here to be asked
        with collected_notices():  # of the files, which have been read before
            length, parameters = _measured(
                {key: value for key, value in settings.items() if key != "replay"}, folder
            )
        settings["training"]["max_length"] = length
        settings["training"]["learning_rate"] = usual_learning_rate(parameters, adapter=adapter) or _TOY_RATE
    return settings


def _replay(model: str, rows: int) -> dict[str, Any] | None:
    """Replay data for a base: what it was tuned on where that is public, else what it writes; none for the toy."""
    name = Path(model).name.lower()
    size = max(200, min(10_000, rows))
    if name.startswith(("bloomz", "mt0")):
        files = "hf://datasets/bigscience/xP3/en/*.jsonl"
        return {"source": {"format": "hub", "name": "json", "data_files": files}, "size": size}
    if model == "toy" or Path(model).exists():
        return None
    return {"source": {"format": "self"}, "size": min(size, 1000)}


def _measured(settings: dict[str, Any], folder: Path) -> tuple[int, int]:
    """The tokens that the examples and all templates fit into, at most what the model reads; and its parameters.

    Raises:
        ModelError: the tokenizer cannot be loaded, or the model is of no known kind.
    """
    from instructalign.doctor.check_examples import sample_examples, smallest_limit
    from instructalign.doctor.resource_estimates import load_empty
    from instructalign.mixture import ReplayBuffer
    from instructalign.mixture.training_data import build_instructions, build_mixture, prepare_corpus
    from instructalign.training.models import load_codec
    from instructalign.training.preflight import longest_template

    config: Config = build_config(settings, folder=folder)
    codec = load_codec(config.model)
    stream = build_instructions(config, prepare_corpus(config)[0])
    sampled = sample_examples(config, build_mixture(config, stream, ReplayBuffer()), codec, 500)
    each = [max(one.prompt, one.answer) if codec.encoder_decoder else one.prompt + one.answer for one in sampled]
    # The longest of the sample, so that what is not in it fits as well; but not for the sake of one outlier.
    needed = max(min(max(each), 2 * smallest_limit(each)), longest_template(config, codec)[0] + 16)
    needed = 32 * ceil(needed / 32)
    if codec.context is not None and not codec.encoder_decoder:
        needed = min(needed, codec.context)
    return needed, sum(weight.numel() for weight in load_empty(config, codec).model.parameters())


def _write(settings: dict[str, Any], notes: Sequence[str]) -> str:
    """The configuration as YAML with comments."""

    def block(key: str, comment: str = "") -> str:
        text = yaml.safe_dump(
            {key: settings[key]}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
        )
        head, _, rest = text.partition("\n")
        return f"{head}{f'   # {comment}' if comment else ''}\n{rest}"

    replay = (
        block("replay", "against forgetting; `format: self`: the model writes it (`instructalign synthesize`)")
        if settings["replay"]
        else "# No replay: the model will forget. Give instruction data in the known languages, or let it write:\n"
        "# replay: {source: {format: jsonl, path: past.jsonl}, size: 1000}\n"
        "# replay: {source: {format: self}, size: 1000}\n"
    )
    return "\n".join(
        [
            "# Drafted by `instructalign init --from`. Paths are relative to this file. What was found:",
            *(f"# - {note}" for note in notes),
            "# Next: instructalign doctor FILE, then instructalign run FILE.",
            "",
            block("model", "a folder in Hugging Face format, or a name on the Hub"),
            block("languages", "known: must not be forgotten; new: to learn; related: to measure transfer"),
            block("corpora"),
            block("instructions", "weights; a tenth of the sentences, at most 100, is held out for the test"),
            replay,
            block("training", f"about {_PASSES} passes over the corpus"),
            block("evaluation", "on the held-out sentences; `instructalign tasks ls` has more"),
        ]
    )
