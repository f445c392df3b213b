"""The documentation keeps its word: its commands and options exist, its links lead somewhere, the site builds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
import yaml

from instructalign import __all__ as public
from instructalign.cli import app
from instructalign.config_file import build_config, load_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# What happened on a day stays as it was written then.
CURRENT = [page for page in PAGES if page.name not in ("LOG.md", "commands.md") and page.parent.name != "results"]


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def commands_of(text: str) -> list[list[str]]:
    """The words of each `instructalign …` in a page's code, its lines joined and comments left out."""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line for block in blocks for line in block.splitlines()] + spans
    return [line.split("#")[0].split()[1:] for line in lines if line.strip().startswith("instructalign ")]


def problem_of(words: list[str]) -> str:
    """What is wrong with a command line: an unknown command or option; empty where nothing is."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return "" if not words[0].isidentifier() else f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if command.context_settings.get("ignore_unknown_options"):  # another program reads the rest
        return ""
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        option = re.match(r"--?[a-z][a-z-]*", word.strip("[]"))
        if option and option[0] not in known | {"--help"}:
            return f"no option {option[0]!r}"
    return ""


@pytest.mark.parametrize("page", CURRENT, ids=ids(CURRENT))
def test_every_command_in_a_page_exists(page: Path) -> None:
    wrong = {" ".join(words): problem_of(words) for words in commands_of(page.read_text(encoding="utf-8"))}
    assert {line: problem for line, problem in wrong.items() if problem} == {}


def test_a_wrong_command_would_be_found() -> None:
    text = "```\ninstructalign rnu x.yaml\n```\nand `instructalign run x.yaml --outt y`, `instructalign run x`"
    assert [problem_of(words) for words in commands_of(text)] == ["no command 'rnu'", "no option '--outt'", ""]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        link = urlsplit(target)
        if link.scheme:
            continue
        place = (page.parent / unquote(link.path)).resolve() if link.path else page
        if place == DOCS / "commands.md":  # made by `make docs`
            continue
        if not place.exists() or (link.fragment and link.fragment not in anchors(place)):
            broken.append(target)
    assert broken == []


def test_every_guide_is_in_the_sites_navigation() -> None:
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8")))
    folders = ("guides", "tutorials", "notebooks")
    here = {str(page.relative_to(DOCS)) for name in folders for page in DOCS.glob(f"{name}/*.md")}
    assert here - listed == set()
    assert {page for page in listed if not (DOCS / page).exists()} - {"commands.md"} == set()


def test_every_public_name_is_in_the_python_reference() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: instructalign\.(\w+)$", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(public)


@pytest.mark.slow
def test_the_site_builds_and_no_page_links_into_nothing(tmp_path: Path) -> None:
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    bin = Path(sys.executable).parent
    commands = tmp_path / "docs" / "commands.md"
    typer_docs = [sys.executable, "-m", "typer", "instructalign.cli", "utils", "docs", "--name", "instructalign"]
    subprocess.run([*typer_docs, "--title", "Commands", "--output", commands], check=True, capture_output=True)
    subprocess.run([bin / "zensical", "build", "--strict"], cwd=tmp_path, check=True, capture_output=True)
    site = tmp_path / "site"
    broken = []
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', text) == []
        if page.name == "404.html":
            continue
        for target in re.findall(r'href="([^"#?]+)', text):
            link = urlsplit(target)
            if link.scheme or target.startswith("//"):
                continue
            place = (page.parent / unquote(link.path)).resolve()
            if not (place.is_file() or (place / "index.html").is_file()):
                broken.append(f"{page.relative_to(site)}: {target}")
    assert broken == []
    assert "resumes" in (site / "commands" / "index.html").read_text(encoding="utf-8")
    assert "base_evaluation" in (site / "python" / "index.html").read_text(encoding="utf-8")


def test_configurations_of_the_tutorials_are_valid(tmp_path: Path) -> None:
    texts = [page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("tutorials/*.md"))]
    blocks = re.findall(r"^```yaml\n(.*?)^```", "\n".join(texts), flags=re.DOTALL | re.MULTILINE)
    configs = [build_config(yaml.safe_load(block), folder=tmp_path) for block in blocks]
    assert [config.languages.new for config in configs] == [["heg"]]


def run_as_written(tutorial: str, folder: Path, elsewhere: Sequence[str] = ()) -> dict[str, str]:
    """What each command of a tutorial prints, run in a folder with the toy base and a few steps.

    Args:
        tutorial: the page's name.
        folder: where the files are that the page begins with.
        elsewhere: what a command holds that needs another machine.
    """
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [["English", "Helong"], *([f"The house {n} is old.", f"Uma {n} la blatas."] for n in range(60))]:
        book.active.append(row)
    book.save(folder / "pairs.xlsx")
    (folder / "letter.txt").write_text("The house is old.\n\nThe house 3 is new.\n", encoding="utf-8")
    (folder / "english.txt").write_text("".join(f"House {n} is new.\n" for n in range(300)), encoding="utf-8")
    text = re.sub(r" \\\n\s*", " ", (DOCS / "tutorials" / f"{tutorial}.md").read_text(encoding="utf-8"))
    printed = {}
    for block in re.findall(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if any(word in line for word in elsewhere):
                continue
            words = [sys.executable, "-m", *shlex.split(line)]
            if " init " in line:
                words += ["--model", "toy"]
            elif " run " in line:
                words += ["--set", "training.steps=4"]
            done = subprocess.run(words, cwd=folder, input="hello\n", capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            printed[line] = done.stdout + done.stderr
            if " select " in line:  # somebody translates
                path = folder / (re.search(r"--out (\S+)", line) or ["", "to-translate.xlsx"])[1]
                book = openpyxl.load_workbook(path)
                for id, source, target in book.active.iter_rows(min_row=2):
                    target.value = f"Uma {id.value}: {source.value}"
                book.save(path)
    return printed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, from which commands find this package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_your_language_in_an_hour_runs_as_written(folder: Path) -> None:
    run_as_written("your-language-in-an-hour", folder)
    assert (folder / "runs" / "mine" / "report.html").is_file()
    assert len((folder / "letter.heg.txt").read_text(encoding="utf-8").splitlines()) == 3
    assert (folder / "to-translate.xlsx").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_one_24_gb_card_runs_as_written(folder: Path) -> None:
    printed = run_as_written("on-one-24-gb-card", folder)
    assert sum("RTX 4090" in text for text in printed.values()) == 2
    config = yaml.safe_load((folder / "runs" / "mine" / "config.yaml").read_text(encoding="utf-8"))
    assert (config["model"]["adapter"]["type"], config["model"]["dtype"]) == ("lora", "bfloat16")
    settings = re.findall(
        r"^\| `\"?([\w.]+=[^`\"]+)\"?` \|", (DOCS / "tutorials/on-one-24-gb-card.md").read_text("utf-8"), re.M
    )
    assert len(settings) == 5
    for setting in settings:  # the table's settings exist
        load_config(folder / "mine.yaml", [setting])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_a_cluster_runs_as_written(folder: Path) -> None:
    printed = run_as_written("on-a-cluster", folder, elsewhere=("pip install", "--slurm"))
    [planned] = [text for line, text in printed.items() if "sweep" in line and "report" not in line]
    assert "4 runs" in planned
    tables = (folder / "sweeps" / "small" / "report.tex").read_text(encoding="utf-8")
    assert tables.count("learning\\_rate=1e-05") > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_which_sentences_next_runs_as_written(folder: Path) -> None:
    printed = run_as_written("which-sentences-next", folder)
    first, second = ({row[1] for row in rows_of(folder / f"round-{n}.xlsx")} for n in (1, 2))
    assert (len(first), len(second), first & second) == (40, 40, set())
    assert "not comparable" in printed["instructalign report runs/round-1 runs/round-2 --out rounds.html"]


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    openpyxl = pytest.importorskip("openpyxl")
    return list(openpyxl.load_workbook(path).active.iter_rows(min_row=2, values_only=True))


def test_reproduce_the_paper_begins_as_written(folder: Path) -> None:
    # The others read models and data from the Hub; `tests/test_paper_presets.py` has the presets.
    printed = run_as_written("reproduce-the-paper", folder, ("doctor", " run ", " report ", " sweep "))
    assert [line.split()[1] for line in printed] == ["configs", "validate", "configs"]
    assert "is valid" in printed["instructalign validate bloomz-560m.yaml"]
