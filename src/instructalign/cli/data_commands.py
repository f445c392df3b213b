"""Commands before training: configuration, diagnosis, preview, instructions and replay data as files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from instructalign import console
from instructalign.cli.options import ConfigFile, Rejects, Settings, load, with_rejects
from instructalign.errors import ConfigError, InstructAlignError

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.sweeps import SweepPlan


def init(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files, after --from.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="Your parallel text: the configuration is made for it."),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="The languages in the order of columns of text or files, where they do not say; - for none.",
        ),
    ] = None,
    known: Annotated[str | None, typer.Option(metavar="A,B", help="Which of them the base model knows.")] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="The base model: a folder or Hub name, or `toy`.")
    ] = "bigscience/bloomz-560m",
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")] = Path(
        "instructalign.yaml"
    ),
) -> None:
    """Writes a configuration: a commented one to fill in, or with --from one that is made for your files.

    Example: `instructalign init --from pairs.xlsx --out my-language.yaml`
    """
    from instructalign.files import refuse_existing, write_text

    refuse_existing(out)
    if not files:
        from instructalign.config_file import starter

        if more or languages or known:
            raise ConfigError(["init: files and languages are looked into with --from: init --from FILE..."])
        write_text(out, starter())
        console.out.print(f"wrote {out}. Edit it, then run: instructalign validate {out}")
        return
    from instructalign.config_draft import draft_config

    draft = draft_config(
        [*files, *(more or [])],
        folder=out.parent,
        languages=languages.split(",") if languages else (),
        known=known.split(",") if known else (),
        model=model,
    )
    write_text(out, draft.text)
    for note in draft.notes:
        console.out.print(note, markup=False)
    console.out.print(f"wrote {out}. Look at it, then run: instructalign doctor {out}", markup=False)


def validate(config: ConfigFile, settings: Settings = None) -> None:
    """Checks a configuration and lists every error at once.

    Example: `instructalign validate my-language.yaml`
    """
    load(config, settings, check=True)
    plan = _plan_of_sweep(config, settings)
    if plan is None:
        console.out.print(f"{config} is valid. To check files, model and data, run: instructalign doctor {config}")
    else:
        console.out.print(f"{config} is valid, and so are the {len(plan.cells)} runs of its sweep.")


def _plan_of_sweep(config: Path, settings: list[str] | None) -> SweepPlan | None:
    """The plan of a configuration that has a `sweep` block."""
    from instructalign.config import SweepConfig
    from instructalign.config_file import build_sweep, read_yaml
    from instructalign.sweeps import plan_sweep

    return None if build_sweep(read_yaml(config)) == SweepConfig() else plan_sweep(config, settings or [])


def doctor(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    gpu: Annotated[
        str | None, typer.Option(metavar="CARD", help="Compute memory and time for a card: h100, l4, 8xh100, …")
    ] = None,
    settings: Settings = None,
) -> None:
    """Checks files, tokenizer, lengths, contamination, memory and time before training; exit code 1 on a problem.

    Example: `instructalign doctor my-language.yaml`
    """
    loaded, plan = load(config, settings), _plan_of_sweep(config, settings)
    from instructalign.doctor import examine
    from instructalign.doctor.resource_estimates import duration

    with console.progress() as progress:
        diagnosis = examine(loaded, gpu=gpu, progress=progress)
    if as_json:
        console.print_json(diagnosis.to_dict())
    else:
        console.show_diagnosis(diagnosis)
        if plan:
            text, costs = f"sweep: {plan.describe()}", diagnosis.costs
            if costs and costs.seconds is not None:
                seconds = plan.seconds(loaded, costs.seconds, costs.evaluation_seconds or 0)
                text += f"; about {duration(seconds)}, one after another"
            console.out.print(text, markup=False)
    if not diagnosis.ready:
        raise typer.Exit(1)


def preview(
    config: ConfigFile,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of examples.")] = 5,
    step: Annotated[int, typer.Option(min=0, help="Optimizer step to show, from 0.")] = 0,
    settings: Settings = None,
) -> None:
    """Shows training examples as the model sees them; tokens that carry the loss are marked.

    Example: `instructalign preview my-language.yaml -n 10 --step 2000`
    """
    from instructalign.pipeline import preview as make

    console.show_previews(make(load(config, settings), count, step))


def generate(
    config: ConfigFile,
    count: Annotated[int, typer.Option(min=1, help="Number of instructions.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .jsonl or .parquet.")],
    form: Annotated[
        Literal["plain", "messages"], typer.Option("--format", help="Prompt and answer, or chat messages.")
    ] = "plain",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes (default: 1; with Ray, all cores)."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Clean rows and generate instructions on this machine, or on a Ray cluster."),
    ] = "local",
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With Ray: shared folder that keeps the cleaned rows."),
    ] = None,
    rejects: Rejects = None,
    settings: Settings = None,
) -> None:
    """Writes alignment instructions for use in another trainer.

    Example: `instructalign generate my-language.yaml --count 10000 --out instructions.jsonl`
    """
    from instructalign.files import refuse_existing
    from instructalign.instructions.export import ENDINGS
    from instructalign.pipeline import write_generated

    if out.is_dir() or out.suffix not in ENDINGS:
        what = "is a folder" if out.is_dir() else "has no known extension"
        raise InstructAlignError(f"{out} {what}. Name a file: {' or '.join(ENDINGS)}.")
    refuse_existing(out)
    if store is not None and engine == "local":
        raise typer.BadParameter("--store needs --engine ray")
    loaded = load(config, with_rejects(settings, rejects))
    with console.progress() as progress:
        written, counts = write_generated(
            loaded, out, count, form, engine=engine, processes=processes, store=store, progress=progress
        )
    console.out.print(f"wrote {written} instructions to {out}")
    console.out.print(f"rows of the corpora: {counts}", markup=False)


def synthesize(
    config: ConfigFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON-lines file to write.")],
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of examples (default: replay.size), or of sentences (all).")
    ] = None,
    back_translate: Annotated[
        bool,
        typer.Option("--back-translate", help="Translate monolingual text of the new languages into a known one."),
    ] = False,
    translate_replay: Annotated[
        bool,
        typer.Option("--translate-replay", help="Translate replay data into a new language, as instruction data."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Who translates, a model or a run (default: the base)."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text file to translate (default: the monolingual corpora)."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="The new language of the translation.")
    ] = None,
    pivot: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="The known language of the translation (default: the first pivot)."),
    ] = None,
    likelihood: Annotated[
        float, typer.Option(help="Drop translations with a lower mean log-likelihood of a token, in nats.")
    ] = -2.0,
    round_trip: Annotated[
        float | None, typer.Option(min=0, max=100, help="Translate back, and drop pairs with a lower chrF++.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Translate, train on the pairs, translate again …; --out is a folder."),
    ] = None,
    rejects: Rejects = None,
    settings: Settings = None,
) -> None:
    """Lets a model write data: replay data (self-synthesized rehearsal), parallel text, or instruction data.

    Example: `instructalign synthesize my-language.yaml --back-translate --text news.txt --out pairs.jsonl`
    """
    from instructalign.files import refuse_existing

    shared: dict[str, Any] = {"--model": model, "--language": language, "--pivot": pivot}
    shared |= {"--round-trip": round_trip, "--rejects": rejects}
    text_only = {"--text": text, "--rounds": rounds}
    given = [name for name, value in {**text_only, **shared}.items() if value is not None]
    if given and not (back_translate or translate_replay):
        raise typer.BadParameter(f"{', '.join(given)} belongs to --back-translate or --translate-replay")
    if translate_replay and (wrong := [name for name in given if name in text_only]):
        raise typer.BadParameter(f"{', '.join(wrong)} belongs to --back-translate")
    if translate_replay and back_translate:
        raise typer.BadParameter("--back-translate and --translate-replay write different files: choose one")
    if not rounds:
        refuse_existing(out)
    loaded = load(config, settings)
    options = {name.removeprefix("--").replace("-", "_"): value for name, value in shared.items()}
    options |= {"count": count, "likelihood": likelihood}
    if back_translate:
        _back_translate(loaded, out, rounds, text=text, **options)
        return
    if translate_replay:
        _translate_replay(loaded, out, **options)
        return
    from instructalign.synthesis import synthesize as write

    with console.progress() as progress:
        counts = write(loaded, out, count=count, progress=progress)
    dropped = ", ".join(f"{reason} {number}" for reason, number in sorted(counts.dropped.items())) or "none"
    console.out.print(f"wrote {counts.kept} examples to {out}; dropped: {dropped}", markup=False)


def _back_translate(config: Config, out: Path, rounds: int | None, **options: Any) -> None:
    from instructalign.pipeline import back_translation_rounds
    from instructalign.synthesis import back_translate

    with console.progress() as progress:
        if rounds:
            folder = back_translation_rounds(config, out, rounds, progress=progress, **options)
            console.out.print(
                f"the last run is in {folder}. Evaluate it: instructalign evaluate {folder / 'model'} --config …"
            )
            return
        counts = back_translate(config, out, progress=progress, **options)
    console.out.print(f"wrote {counts.kept} pairs to {out}; sentences: {counts}", markup=False)
    pivot = options["pivot"] or config.pivots[0]
    entry = f"{{format: jsonl, path: {out.resolve()}, synthetic: {pivot}}}"
    console.out.print(f"to train on them, add to corpora: {entry}", markup=False)


def _translate_replay(config: Config, out: Path, **options: Any) -> None:
    from instructalign.languages import canonical
    from instructalign.pipeline import contamination_check
    from instructalign.synthesis import translate_replay

    with console.progress() as progress:
        counts = translate_replay(config, out, check=contamination_check(config), progress=progress, **options)
    console.out.print(f"wrote {counts.kept} examples to {out}; replay examples: {counts}", markup=False)
    code, model = canonical(options["language"] or config.targets[0]), options["model"] or config.model.base
    entry = f"{{format: jsonl, path: {out.resolve()}, provenance: translated by {model}}}"
    console.out.print(
        f"a model wrote them: read some before you train on them. To do so, add to instruction_data.sources: "
        f"{code}: {entry}",
        markup=False,
    )


def select(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="Text, a sentence a line, or any corpus file.")],
    budget: Annotated[str, typer.Option(metavar="N", help="Sentences to choose: 500; or their words: 2000w.")],
    language: Annotated[str, typer.Option(metavar="CODE", help="The language to translate into.")],
    source: Annotated[str, typer.Option(metavar="CODE", help="The language of the sentences.")] = "eng",
    column: Annotated[str | None, typer.Option(metavar="NAME", help="A table's column of sentences.")] = None,
    translated: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="What is translated already; of a table, the rows that are. Repeatable."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="A configuration whose corpora are translated already.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Prefer what this model is uncertain of: a folder or Hub name."),
    ] = None,
    words: Annotated[str, typer.Option(metavar="MIN-MAX", help="How long sentences may be, in words.")] = "3-40",
    ngrams: Annotated[int, typer.Option(min=1, max=5, help="The longest runs of words that count.")] = 2,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table to write: .xlsx, .csv or .tsv.")] = Path(
        "to-translate.xlsx"
    ),
) -> None:
    """Chooses the sentences to translate next: those that say most about the rest of a corpus.

    Example: `instructalign select english.txt --budget 500 --language heg`
    """
    from instructalign.data.formats.spreadsheets import TABLE_ENDINGS, write_table
    from instructalign.files import refuse_existing
    from instructalign.languages import canonical
    from instructalign.sentence_selection import select_sentences

    size = re.fullmatch(r"([1-9]\d*)(w?)", budget)
    range_ = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", words)
    problems = []
    if size is None:
        problems.append(f"--budget: expected a number of sentences (500) or of words (2000w), found {budget!r}")
    if range_ is None or int(range_[1]) > int(range_[2]):
        problems.append(f"--words: expected the fewest and the most words, such as 3-40, found {words!r}")
    if out.suffix.lower() not in TABLE_ENDINGS:
        problems.append(f"--out: expected a name that ends in {', '.join(TABLE_ENDINGS)}, found {str(out)!r}")
    codes = {}
    for option, code in (("--source", source), ("--language", language)):
        try:
            codes[option] = canonical(code)
        except InstructAlignError as error:
            problems.append(f"{option}: {error}")
    if len(set(codes.values())) == 1 and len(codes) == 2:
        problems.append(f"--language: {language!r} is the language of the sentences (--source) too")
    if problems or size is None or range_ is None:
        raise ConfigError(problems)
    refuse_existing(out)
    with console.progress() as progress:
        choice = select_sentences(
            corpus,
            source=codes["--source"],
            target=codes["--language"],
            budget=int(size[1]),
            in_words=bool(size[2]),
            column=column,
            translated=translated or (),
            config=load(config, None) if config else None,
            model=model,
            order=ngrams,
            shortest=int(range_[1]),
            longest=int(range_[2]),
            progress=progress,
        )
    header = ("id", codes["--source"], codes["--language"])
    write_table(out, [header, *((id, text, "") for id, text in choice.sentences)])
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in choice.left_out.items()) or "none"
    console.out.print(
        f"wrote {len(choice.sentences):,} of {choice.candidates:,} sentences, {choice.words:,} words, to {out}; "
        f"left out: {left_out}\n"
        f"Of the corpus's words and runs of words, {100 * choice.before:.1f} % are translated, and "
        f"{100 * choice.after:.1f} % with these.\n"
        f"Fill in the column {header[2]}, then run: instructalign init --from {out}",
        markup=False,
    )
