"""Commands that use a model: chat, play, translate."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instructalign import console
from instructalign.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from instructalign.interact import Chat

AnyModel = Annotated[str, typer.Argument(metavar="MODEL", help="A run, a model folder, or a name on the Hub.")]

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HELP = {
    "/system TEXT": "sets the system's turn; without a text, takes it away",
    "/undo": "takes the last question and its answer back",
    "/retry": "asks for another answer, by sampling",
    "/save FILE": "adds the conversation to a file of JSON lines, which replay data can be read from",
    "/help": "shows this",
    "/quit": "ends the chat, as Ctrl-D does",
}


def chat(
    model: AnyModel,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="Another model, such as the base, that answers first.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="Ask this alone, and end.")] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system's turn.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 gives the likeliest answer.")] = 0.0,
) -> None:
    """Talks with a model, in the chat template that it was trained with; /help lists what it understands.

    Without a terminal, each line of the input is a question.

    Example: `instructalign chat runs/javanese --base HuggingFaceTB/SmolLM2-135M-Instruct`
    """
    if prompt is not None and not prompt.strip():
        raise ConfigError(["--prompt: has no text"], "the arguments of chat")
    from instructalign.interact import chat as talk

    chats = {
        name: talk(name, system=system, max_new_tokens=max_new_tokens, temperature=temperature)
        for name in dict.fromkeys(each for each in (base, model) if each is not None)
    }
    if prompt is not None:
        _say(chats, prompt)
        return
    if sys.stdin.isatty():
        first = chats[model].loaded
        form = "its chat template" if first.codec.chat else "no chat template: it reads plain text, as in training"
        console.out.print(f"{model} ({form}). /help lists the commands.", markup=False)
    for line in _lines():
        if line == "/quit":
            break
        try:
            if line.startswith("/") and not line.startswith("//"):
                _command(chats, line)
            elif line:
                _say(chats, line.removeprefix("/") if line.startswith("//") else line)
        except DataError as error:
            console.err.print(f"error: {error}", markup=False)


def _lines() -> Iterator[str]:
    """What the user types, or the lines of the standard input."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):  # on Windows
        import readline  # noqa: F401  (input() then has a history)
    while True:
        try:
            yield input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.out.print()
            return


def _command(chats: dict[str, Chat], line: str) -> None:
    name, _, text = line.partition(" ")
    text = text.strip()
    if name == "/help":
        console.print_table("", ["", ""], [[key, what] for key, what in _HELP.items()])
    elif name == "/system":
        for each in chats.values():
            each.system = text or None
        console.status.print("the system's turn is set" if text else "no system's turn of your own")
    elif name == "/undo":
        undone = [each.undo() for each in chats.values()]
        console.status.print("taken back" if any(undone) else "there is nothing to take back")
    elif name == "/retry":
        _say(chats, None)
    elif name == "/save":
        if not text:
            raise DataError("/save needs the name of a file: /save talk.jsonl")
        for number, each in enumerate(chats.values()):
            path = Path(text) if number == len(chats) - 1 else Path(text).with_suffix(f".base{Path(text).suffix}")
            try:
                each.save(path)
            except OSError as error:
                raise DataError(f"{path}: {error.strerror}.") from None
            console.status.print(f"saved: {path}", markup=False)
    else:
        commands = [key.partition(" ")[0] for key in _HELP]
        raise DataError(f"unknown command {name}. {suggest(name, commands)} A text may begin with //.")


def _say(chats: dict[str, Chat], text: str | None) -> None:
    """Prints the answers to a text, or to the last one again, while they are written."""
    for name, each in chats.items():
        if len(chats) > 1:
            console.out.print(f"{name}:", style="bold", markup=False)
        answer = each.retry(_show) if text is None else each.ask(text, _show)
        _show("\n")
        if not answer:
            console.status.print("(the model wrote nothing)", style="dim")
        if not each.finished:
            console.status.print("(the answer was cut off: --max-new-tokens allows more)", style="dim")
        if each.forgotten:
            console.status.print(f"(the model has no room for the first {each.forgotten} turns)", style="dim")


def _show(piece: str) -> None:
    sys.stdout.write(_CONTROLS.sub("", piece))  # a model may write codes that a terminal obeys
    sys.stdout.flush()


def play(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")],
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="Where the base model is, if the run's own is gone.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Opens a page with the model before and after training: translate, ask, classify, rate the answers.

    The page is on this machine alone, and only who has its address can use it. Ratings are kept in RUN/feedback.

    Example: `instructalign play runs/javanese --port 8000 --no-browser`
    """
    from instructalign.interact.playground import PlaygroundServer, open_playground

    try:
        server = PlaygroundServer(port=port)  # before the models, which take longer
    except OSError as error:
        raise ConfigError(
            [f"--port: {port} cannot be used ({error.strerror}). 0 takes any free one"], "the arguments of play"
        ) from None
    with server:
        console.status.print("loading the two models …")
        server.playground = open_playground(run, base)
        console.out.print(f"{server.address}\nOpen this address in a browser; Ctrl-C ends it.", markup=False)
        if browser:
            import webbrowser

            webbrowser.open(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def translate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".txt .md .csv .tsv .xlsx .po .srt .vtt .usfm .sfm .docx")
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="A run, a model folder, or a name on the Hub.")],
    source: Annotated[str, typer.Option("--from", metavar="LANGUAGE", help="Its language: a code or a name.")],
    target: Annotated[str, typer.Option("--to", metavar="LANGUAGE", help="The language to translate into.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: beside FILE, with the language.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a table: the column to translate, by name or number.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(metavar="NAME", help="Of a workbook: the sheet.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again, and replace the output.")] = False,
    calibrate: Annotated[
        bool, typer.Option(help="Translate the run's held-out pairs first, to calibrate the confidence.")
    ] = True,
) -> None:
    """Translates a file into one of the same format, and lists the least certain sentences for a reviewer.

    Interrupted, it goes on with the same command.

    Example: `instructalign translate film.srt --model runs/javanese --from eng --to jav`
    """
    from instructalign.interact.file_translation import GOOD_CHRF, translate_file

    with console.progress() as progress:
        done = translate_file(
            file,
            model,
            source,
            target,
            out,
            column=column,
            sheet=sheet,
            fresh=fresh,
            calibrate=calibrate,
            progress=progress,
        )
    flagged = sum(bool(each.problems) for each in done.sentences)
    lines = [f"{len(done.sentences):,} different sentences, {flagged:,} to look at: {done.out}"]
    lines += [f"left as they were: {', '.join(done.kept)}"] if done.kept else []
    if done.calibration:
        lines.append(
            f"confidence: the share of equally likely held-out translations with chrF++ {GOOD_CHRF:g} or more; "
            f"calibration error {done.calibration.error:.3f} on {done.calibration.pairs} pairs, of which "
            f"{done.calibration.good:.0%} reached it"
        )
    elif calibrate:
        lines.append(f"the likelihood is not calibrated: {done.uncalibrated}")
    lines.append(f"the least certain first, for a reviewer: {done.review}")
    for line in lines:
        console.out.print(line, markup=False)
