"""The Hub when it is away, slow, gated, without the name or rate limited: a sentence, within seconds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from instructalign.cli import main
from instructalign.hub_access import is_network_error

# Uses the Hub in all the ways there are, for a name of each status; prints the class and the text of each error.
PROGRAM = """
import json, sys, time
from pathlib import Path
from instructalign.config import ModelConfig
from instructalign.data.formats.flores import read_flores_plus
from instructalign.data.formats.tabular import read_hub_rows
from instructalign.evaluation.task_sources import read_hub_items
from instructalign.merging.model_weights import open_weights
from instructalign.mixture.replay_sources import read_hub_examples
from instructalign.training.models import load_codec, load_model
from instructalign.types import Counts

time.sleep = lambda seconds: None  # the pauses between the libraries' tries, where the Hub does answer
for name in map(str.strip, sys.stdin):
    for what, use in {
        "model": lambda: load_model(ModelConfig(base=name)),
        "tokenizer": lambda: load_codec(ModelConfig(base=name)),
        "merging": lambda: open_weights(name),
        "corpus": lambda: list(read_hub_rows(["eng", "jav"], Counts(), name=name)),
        "flores_plus": lambda: list(read_flores_plus(["eng", "jav"], Counts(), name=name)),
        "replay": lambda: list(read_hub_examples(name=name)),
        "xP3": lambda: list(read_hub_examples(name="json", data_files=f"hf://datasets/{name}/*.jsonl")),
        "evaluation": lambda: list(read_hub_items(Path("none"), "eng", "eng", dataset=name)),
    }.items():
        start = time.monotonic()
        try:
            use()
        except Exception as error:
            seconds = time.monotonic() - start
            print(json.dumps([name, what, type(error).__name__, str(error), seconds]), flush=True)
        else:
            print(json.dumps([name, what, "", "", 0]), flush=True)
"""


Found = list[tuple[str, str, str, str, float]]


@contextmanager
def program(folder: Path, endpoint: str, **environment: str) -> Iterator[Callable[[str], Found]]:
    """A process that takes a server for the Hub; gives what it says of a name."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", **environment}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env={**os.environ, **settings}, **pipes) as process:

        def ask(name: str) -> Found:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return [tuple(json.loads(process.stdout.readline())) for _ in WAYS]

        yield ask
        process.stdin.close()


WAYS = ["model", "tokenizer", "merging", "corpus", "flores_plus", "replay", "xP3", "evaluation"]
CODES = {403: "GatedRepo", 404: "RepoNotFound"}


@contextmanager
def server(hang: bool = False) -> Iterator[str]:
    """Answers with the status that is the name of the repository, or not at all."""
    ended = Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if hang:
                ended.wait()
                return
            asked = self.path + self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            status = next((code for code in (401, 403, 404, 429, 503) if f"s{code}" in asked), 200)
            body = b"{}"
            self.send_response(status)
            if status in CODES:
                self.send_header("X-Error-Code", CODES[status])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.daemon_threads = True
    Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        ended.set()
        serving.shutdown()
        serving.server_close()


def check(found: Found, name: str, words: str) -> None:
    assert [each[:2] for each in found] == [(name, what) for what in WAYS]
    for _, what, kind, text, _ in found:
        expected = "ModelError" if what in ("model", "tokenizer", "merging") else "DataError"
        assert (kind, name, what) == (expected, name, what), text
        if (name, what) != ("some/s403", "xP3"):  # the Hub lists the files of gated sets, this server does not
            assert words in text, (what, text)
        assert "\n" not in text
        assert name in text


AWAY = "the Hub does not answer"


def check_away(found: Found) -> None:
    check(found, "some/name", AWAY)
    assert sum(seconds for *_, seconds in found) < 20


def test_statuses_and_a_hub_that_refuses(tmp_path: Path) -> None:
    words = {"s401": "no such name", "s403": "it is gated", "s404": "no such name", "s429": "HTTP 429"}
    words |= {"s503": "HTTP 503"}
    with contextlib.ExitStack() as stack:
        with server() as endpoint:
            ask = stack.enter_context(program(tmp_path, endpoint))
            for name, said in words.items():
                check(ask(f"some/{name}"), f"some/{name}", said)
        check_away(ask("some/name"))  # nothing listens there any more


def test_a_hub_that_hangs_costs_seconds(tmp_path: Path) -> None:
    with server(hang=True) as endpoint, program(tmp_path, endpoint, HF_HUB_ETAG_TIMEOUT="1") as ask:
        check_away(ask("some/name"))


def test_offline_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # as in all tests
    monkeypatch.setattr(time, "sleep", time.sleep)  # set back at the end
    monkeypatch.setattr(sys, "stdin", io.StringIO("some/name\n"))
    exec(PROGRAM, {})
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    check_away([tuple(each) for each in found])


def test_an_error_of_the_network_on_the_way_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class ReadTimeout(Exception):
        pass

    ReadTimeout.__module__ = "httpx2._exceptions"

    def fail() -> None:
        raise ReadTimeout("The read operation timed out")

    assert is_network_error(ReadTimeout())
    monkeypatch.setattr("instructalign.cli.app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "The read operation timed out" in capsys.readouterr().err


# Runs the command line with arguments of which {name} is a repository; prints the exit code and what it wrote.
COMMANDS = """
import contextlib, io, json, sys, time, traceback
from instructalign.cli import main

slept = []
time.sleep = slept.append  # the pauses between the libraries' tries
for line in sys.stdin:
    sys.argv = ["instructalign", *json.loads(line)]
    said = io.StringIO()
    slept.clear()
    from instructalign import console
    console.err.file = console.out.file = said
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        code = "traceback"
        traceback.print_exc(file=said)
    print(json.dumps([sys.argv[1:], code, said.getvalue(), sum(slept)]), file=sys.__stdout__, flush=True)
"""
CONFIG = """
model: {{base: {base}}}
languages: {{known: [eng], new: [jav]}}
corpora: [{corpus}]
instructions: {{objectives: {{mt: 1}}, heldout: 2}}
replay: {{source: {replay}, size: 4}}
training: {{steps: 1, batch_size: 2, max_length: 200, learning_rate: 1.0e-3}}
evaluation: {{tasks: [heldout_translation], prompts: [en-1]}}
"""


HUB_TASK = """
name: mine
labels: {{good: {{eng: good}}, bad: {{eng: bad}}}}
prompts: {{en-1: {{language: eng, prompt: "{{text}} Good or bad?"}}}}
languages: [eng, jav]
data: {{format: hub, dataset: {name}}}
fields: {{text: text, label: label}}
"""


def _calls(folder: Path, name: str) -> dict[int, list[list[str]]]:
    """Every command with a name of the Hub in each place that takes one, by the exit code that it must have."""
    (folder / "a.csv").write_text("eng,jav\n" + "".join(f"one {n},siji {n}\n" for n in range(9)))
    (folder / "t.txt").write_text("One small stone.\n")
    (folder / "p.jsonl").write_text('{"inputs": "a", "targets": "b"}\n' * 9)
    (folder / "mine.yaml").write_text(HUB_TASK.format(name=name))
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": name, "r": 2, "target_modules": ["q_proj"]})
    )
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    csv, hub = f"{{format: csv, path: {folder}/a.csv}}", f"{{format: hub, name: {name}}}"
    past = f"{{format: jsonl, path: {folder}/p.jsonl}}"

    def at(file: str) -> str:
        return str(folder / file)

    configs = {
        "none": ("toy", csv, past),
        "base": (name, csv, past),
        "corpus": ("toy", hub, past),
        "replay": ("toy", csv, hub),
        "task": ("toy", csv, past),
        "data": ("toy", csv, past),
    }
    for place, (base, corpus, replay) in configs.items():
        text = CONFIG.format(base=base, corpus=corpus, replay=replay)
        if place == "task":
            text = text.replace("[heldout_translation]", f"[{at('mine.yaml')}]")
        if place == "data":
            text += f"instruction_data: {{sources: {{jav: [{hub}]}}, share: 0.1}}\n"
        Path(at(f"{place}.yaml")).write_text(text)
    good = [["run", at("none.yaml"), "--out", at("run")], ["card", at("run"), "--repo", name]]
    good += [["push", at("run"), name, "--dry-run"], ["report", at("run")], ["tasks", "validate", at("mine.yaml")]]
    good += [["init", "--from", at("a.csv"), "--model", name, "--out", at("init.yaml")]]
    good += [["export", at("run"), "--format", "folder", "--out", at("exported")]]
    bad = []
    for place in list(configs)[1:]:
        config, out = at(f"{place}.yaml"), at(f"out-{place}")
        good.append(["validate", config])
        bad += [["train", config, "--out", out], ["run", config, "--out", out], ["doctor", config]]
        bad += [["preview", config]]
    del bad[bad.index(["train", at("task.yaml"), "--out", at("out-task")])]  # which looks at no task
    del bad[bad.index(["preview", at("task.yaml")])]
    base = at("base.yaml")
    bad += [
        ["sweep", base, "--seeds", "1,2", "--workers", "1", "--out", at("sweep")],
        ["generate", at("corpus.yaml"), "--count", "2", "--out", at("g.jsonl")],
        ["evaluate", name, "--config", base, "--out", at("e")],
        ["evaluate", "toy", "--config", at("task.yaml"), "--out", at("e")],
        ["synthesize", base, "--count", "2", "--out", at("s.jsonl")],
        [
            "synthesize",
            base,
            "--back-translate",
            "--text",
            at("t.txt"),
            "--language",
            "jav",
            "--out",
            at("b.jsonl"),
        ],
        ["select", at("t.txt"), "--budget", "1", "--language", "jav", "--model", name, "--out", at("s.csv")],
        ["merge", name, "toy", "--out", at("m")],
        ["merge", "toy", name, "--out", at("n"), "--config", at("none.yaml")],
        ["chat", name, "--prompt", "a"],
        ["chat", at("run"), "--base", name, "--prompt", "a"],
        ["chat", at("adapter"), "--prompt", "a"],
        ["play", at("run"), "--base", name, "--no-browser"],
        ["translate", at("t.txt"), "--model", name, "--from", "eng", "--to", "jav"],
        ["tasks", "export", at("mine.yaml"), "--data", at("no"), "--out", at("x")],
        ["export", at("adapter"), "--format", "folder", "--out", at("y")],
        ["push", at("run"), name],
    ]
    return {0: good, 1: bad}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "words"),
    [("s404", "no such name"), ("offline", "does not answer")],
)
def test_every_command_says_what_is_wrong_with_the_hub(tmp_path: Path, status: str, words: str) -> None:
    with server() as endpoint:
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        settings |= {"HF_HUB_OFFLINE": "1" if status == "offline" else "0", "HF_HUB_DISABLE_XET": "1"}
        by_code = _calls(tmp_path, f"some/{status}")
        calls = [call for part in by_code.values() for call in part]
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            input="".join(json.dumps(call) + "\n" for call in calls),
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each[0] for each in found] == calls, done.stderr
    wrong = []
    for call, code, said, seconds in found:
        expected = next(each for each, part in by_code.items() if call in part)
        flat = " ".join(said.split())
        named = f"some/{status}" in flat and words in flat and seconds < 5
        if code != expected or "Traceback" in said or (expected and not named):
            wrong.append((call, code, said, seconds))
    assert not wrong, "\n".join(map(str, wrong))
