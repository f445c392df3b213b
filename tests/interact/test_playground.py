"""The page of `instructalign play`: who is let in, the queue, feedback; and in headless Chromium."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from instructalign.data.formats.tabular import read_jsonl_rows
from instructalign.errors import ModelError
from instructalign.evaluation.likelihood import score_batch
from instructalign.evaluation.prompting import make_queries
from instructalign.evaluation.tasks import load_task
from instructalign.interact import playground as module
from instructalign.interact.playground import PlaygroundServer, open_playground
from instructalign.mixture.replay_sources import ReplayRequest, read_jsonl_examples
from instructalign.types import Counts, Item
from test_cli import call as run_command
from tiny import save_tiny

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARABIC = "مرحبا بالعالم"
HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\"><b>bold</b> ${1+1} {{7*7}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder whose base and adapted model differ."""
    folder = tmp_path_factory.mktemp("runs") / "<b>run"
    folder.mkdir()
    save_tiny(folder / "base", "llama", seed=1)
    save_tiny(folder / "model", "llama", seed=2)
    (folder / "pairs.tsv").write_text("eng\tjav\nhello\thalo\n", encoding="utf-8")
    config = {
        "model": {"base": "./base"},
        "languages": {"known": ["eng", "arb"], "new": ["jav", "qaa"], "names": {"qaa": "</script>Hill"}},
        "corpora": [{"format": "tsv", "path": "pairs.tsv"}],
        "training": {"steps": 1},
        "evaluation": {"tasks": ["nusax_senti", "heldout_text"], "data": "."},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[PlaygroundServer]:
    served = PlaygroundServer(open_playground(str(run)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def call(
    server: PlaygroundServer, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
    connection.request(method, f"{path}?token={server.token if token is None else token}", data, sent)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def ask(server: PlaygroundServer, **changes: Any) -> list[dict[str, Any]]:
    asked = {"kind": "ask", "side": "after", "text": "the food", **changes}
    status, text = call(server, "POST", "/answer", asked)
    assert status == 200, text
    return [json.loads(line) for line in text.splitlines()]


def said(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("text", "") for line in lines)


@pytest.mark.parametrize(
    ("method", "path", "changes", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Host": "localhost:9000"}, 200),
        ("GET", "/", {"token": ""}, 403),
        ("GET", "/", {"token": "é"}, 403),
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("GET", "/", {"Host": "127.0.0.1.evil.example:80"}, 421),
        ("GET", "/", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 200),  # a link in a mail
        ("GET", "/", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ("GET", "/config.yaml", {}, 404),
        ("GET", "/../config.yaml", {}, 404),
        ("POST", "/answer", {"token": "x"}, 403),
        ("POST", "/answer", {"Origin": "http://evil.example"}, 403),
        ("POST", "/answer", {"Origin": "null"}, 403),
        ("POST", "/answer", {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate"}, 403),
        ("POST", "/answer", {"Content_Type": "text/plain"}, 415),  # what a form of another page could send
        ("POST", "/answer", {"body": b"no json"}, 400),
        ("POST", "/answer", {"body": []}, 400),
        ("POST", "/answer", {"body": {"kind": "ask", "side": "both", "text": "x"}}, 400),
        ("POST", "/answer", {"body": {"kind": "ask", "side": "after", "text": " "}}, 400),
        ("POST", "/answer", {"body": {"kind": "ask", "side": "after", "text": "x" * 4001}}, 400),
        ("POST", "/answer", {"body": b" " * 200_000}, 413),
        ("POST", "/answer", {"body": {"kind": "ask", "side": "after", "text": "1234567 " * 490}}, 422),
        ("POST", "/elsewhere", {"body": {}}, 404),
        ("PUT", "/", {}, 501),
    ],
)
def test_who_is_let_in(server: PlaygroundServer, method: str, path: str, changes: Any, status: int) -> None:
    changes = dict(changes)
    body, token = changes.pop("body", {} if method == "POST" else None), changes.pop("token", None)
    if token == "é":
        token = "%C3%A9"
    found, text = call(server, method, path, body, token, **changes)
    assert found == status
    assert "Traceback" not in text


def test_it_listens_on_loopback_alone(server: PlaygroundServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32


def test_both_models_answer_as_they_do_alone(server: PlaygroundServer, run: Path) -> None:
    from instructalign import chat

    answers = {side: said(ask(server, side=side)) for side in ("before", "after")}
    for side, name in (("before", "base"), ("after", "model")):
        assert answers[side].rstrip() == chat(run / name, max_new_tokens=256).ask("the food")
    assert answers["before"] != answers["after"]
    translation = ask(server, kind="translate", source="eng", target="qaa", text="the food is good")
    assert "\n" not in said(translation)
    assert translation[-1]["done"]


def test_labels_are_those_of_the_scorer(server: PlaygroundServer) -> None:
    [line] = ask(server, kind="labels", task="nusax_senti", prompt="en-1", fields={"text": "good food"})
    task: Any = load_task("nusax_senti")
    loaded = server.playground._models["after"]
    item = Item("", {"text": "good food"}, "positive")
    [expected] = score_batch(loaded, make_queries(loaded.codec, task, [("en-1", item, ())]))
    assert [each["likelihood"] for each in line["labels"]] == pytest.approx(list(expected.labels), abs=1e-4)
    assert sum(each["share"] for each in line["labels"]) == pytest.approx(1)
    assert [each["label"] for each in line["labels"]] == list(task.labels)


def test_feedback_is_replay_data_and_a_corpus(server: PlaygroundServer, run: Path) -> None:
    shutil.rmtree(run / "feedback", ignore_errors=True)
    about = {
        "kind": "translate",
        "side": "after",
        "source": "jav",
        "target": "eng",
        "text": "enak",
        "answer": "god",
    }
    for changes in (
        {"rating": "up", "answer": "good"},
        {"rating": "down", "comment": "bad"},
        {"rating": "down", "better": "tasty"},
        {"kind": "ask", "text": "who?", "answer": "me\nyou", "rating": "up"},
    ):
        assert call(server, "POST", "/feedback", {**about, **changes}) == (200, '{"saved": true}\n')
    assert call(server, "POST", "/feedback", {**about, "rating": "fine"})[0] == 400
    counts = Counts()
    request = ReplayRequest(counts=counts)
    examples = list(read_jsonl_examples(request, path=run / "feedback" / "answers.jsonl"))
    asked = "Translate the following text from Javanese to English.\nText: enak\nTranslation:"
    assert [(each.prompt, each.answer) for each in examples] == [
        (asked, "good"),
        (asked, "tasty"),
        ("who?", "me\nyou"),
    ]
    assert list(counts.dropped.values()) == [1]
    rows = list(read_jsonl_rows(["eng", "jav"], Counts(), path=run / "feedback" / "eng-jav.jsonl"))
    assert [dict(row.texts) for row in rows] == [{"eng": "good", "jav": "enak"}, {"eng": "tasty", "jav": "enak"}]


def test_users_wait_for_each_other_and_see_their_own(
    server: PlaygroundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, most = 0, 0

    def slow(
        loaded: Any, turns: Any, most_tokens: int, on_text: Callable[[str], None], **_: Any
    ) -> tuple[str, bool]:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for piece in turns[-1][1]:
            on_text(piece)
            time.sleep(0.01)
        busy -= 1
        return turns[-1][1], True

    monkeypatch.setattr(module, "stream_answer", slow)
    texts = [f"user {n} says {'abc'[n % 3] * 20}" for n in range(8)]
    answers: dict[str, list[dict[str, Any]]] = {}
    threads = [threading.Thread(target=lambda t=t: answers.update({t: ask(server, text=t)})) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {text: said(lines) for text, lines in answers.items()} == {text: text for text in texts}
    assert most == 1
    assert any("waiting" in line for lines in answers.values() for line in lines)


def test_one_who_leaves_frees_the_queue(server: PlaygroundServer, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def endless(loaded: Any, turns: Any, most: int, on_text: Callable[[str], None], **_: Any) -> tuple[str, bool]:
        if turns[-1][1] == "short":
            return "", True
        try:
            while True:
                on_text("x" * 1000)
        finally:
            stopped.set()

    monkeypatch.setattr(module, "stream_answer", endless)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    body = json.dumps({"kind": "ask", "side": "after", "text": "long"})
    connection.request("POST", f"/answer?token={server.token}", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    reply.read(5000)
    reply.close()
    connection.close()
    assert stopped.wait(30)
    assert ask(server, text="short")[-1]["done"]


def test_what_is_no_run_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no run.*instructalign chat"):
        open_playground(str(run / "base"))
    with pytest.raises(ModelError, match="does not exist"):
        open_playground(str(run), base=str(tmp_path / "gone"))


def test_a_port_in_use_is_found_before_the_models_are_loaded(server: PlaygroundServer, run: Path) -> None:
    done = run_command("play", str(run / "gone"), "--port", str(server.server_port), "--no-browser")
    assert (done.returncode, "--port" in done.stderr, "loading" in done.stderr) == (2, True, False)
    free = run_command("play", str(run / "gone"), "--no-browser")
    assert (free.returncode, "loading" in free.stderr, "gone" in free.stderr) == (1, True, True)


# -- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright is installed (the extra dev)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, server: PlaygroundServer, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens the page as a new user; afterwards no page may have had an error or asked another server."""
    pages: list[tuple[Any, list[str], list[str]]] = []

    def opened(**options: Any) -> Any:
        page = browser.new_context(**{"locale": "en-GB", **options}).new_page()
        errors: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        pages.append((page, errors, asked))
        page.goto(server.address)
        return page

    yield opened
    for number, (page, errors, asked) in enumerate(pages):
        if pictures := os.environ.get("PICTURES"):  # a folder, for people to look at them
            name = request.node.name.replace("/", "-")
            page.screenshot(path=f"{pictures}/{name}-{number}.png", full_page=True)
        assert errors == []
        assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
            f"127.0.0.1:{server.server_port}"
        }
        page.context.close()


def answers_of(page: Any) -> list[str]:
    page.locator("#send:enabled").wait_for(timeout=60_000)
    return [each.text_content() for each in page.query_selector_all(".answer")]


@pytest.mark.slow
@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Translate"), ("id-ID", "Terjemahkan")])
def test_the_interface_has_two_languages(visit: Any, locale: str, word: str) -> None:
    page = visit(locale=locale)
    assert page.locator("#modes button").first.text_content() == word
    assert page.evaluate("document.documentElement.lang") == locale[:2]
    page.select_option("#interface", "id")
    assert page.locator("#target option").all_text_contents()[2:] == ["Jawa", "</script>Hill"]
    assert page.locator("#send").text_content() == "Jawab"
    page.select_option("#interface", "en")
    assert page.locator("#target option").all_text_contents()[2:] == ["Javanese", "</script>Hill"]
    assert page.evaluate("[...document.querySelectorAll('[data-t]')].every(each => each.textContent)")


@pytest.mark.slow
def test_hostile_text_is_text(visit: Any, server: PlaygroundServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def echo(loaded: Any, turns: Any, most: int, on_text: Callable[[str], None], **_: Any) -> tuple[str, bool]:
        on_text(turns[-1][1])
        return turns[-1][1], True

    monkeypatch.setattr(module, "stream_answer", echo)
    page = visit()
    page.click("#modes [value=ask]")
    page.fill("textarea", HOSTILE)
    page.click("#send")
    assert answers_of(page) == [HOSTILE, HOSTILE]
    assert page.title() == "instructalign"
    assert page.locator("h1").text_content() == "<b>run"
    assert page.locator("b, img").count() == 0
    page.click("[data-side=after] [value=up]")
    page.fill("[data-side=after] .comment", HOSTILE)
    page.click("[data-side=after] .save")
    page.locator("[data-side=after] form [role=status]", has_text="Saved").wait_for()


@pytest.mark.slow
def test_text_from_right_to_left(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def arabic(loaded: Any, turns: Any, most: int, on_text: Callable[[str], None], **_: Any) -> tuple[str, bool]:
        on_text(ARABIC)
        return ARABIC, True

    monkeypatch.setattr(module, "stream_answer", arabic)
    page = visit()
    page.select_option("#source", "eng")
    page.select_option("#target", "arb")
    page.fill("textarea", "hello world")
    page.keyboard.press("Control+Enter")
    assert answers_of(page) == [ARABIC] * 2
    direction = "e => [getComputedStyle(e).direction, e.lang]"
    assert page.locator(".answer").first.evaluate(direction) in (["rtl", "ar"], ["rtl", "arb"])
    page.click("#swap")
    page.fill("textarea", ARABIC)
    assert page.locator("textarea").first.evaluate(direction)[0] == "rtl"
    assert page.locator("#source").input_value() == "arb"


@pytest.mark.slow
def test_two_users_at_once(visit: Any, run: Path) -> None:
    pages = [visit(), visit()]
    for page, text in zip(pages, ("the food is good", "clean and resik"), strict=True):
        page.click("#modes [value=ask]")
        page.fill("textarea", text)
        page.click("#send")
    answers = [answers_of(page) for page in pages]
    from instructalign import chat

    for text, (before, after) in zip(("the food is good", "clean and resik"), answers, strict=True):
        assert before.strip() == chat(run / "base", max_new_tokens=256).ask(text).strip()
        assert after.strip() == chat(run / "model", max_new_tokens=256).ask(text).strip()


@pytest.mark.slow
def test_a_phone_a_keyboard_and_labels(visit: Any, tmp_path: Path) -> None:
    page = visit(viewport={"width": 390, "height": 800}, color_scheme="dark", has_touch=True, is_mobile=True)
    page.click("#modes [value=labels]")
    page.fill("textarea", "good food " * 30)
    page.click("#send")
    answers_of(page)
    assert page.locator("[data-side=after] tbody tr").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 27)"
    for name in page.locator("button:visible, select:visible, textarea:visible").all():
        box = name.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    # Whatever can be reached by the keyboard has a name for a screen reader.
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, textarea, meter')].filter(e => e.offsetParent && "
        "!(e.textContent.trim() && e.tagName === 'BUTTON') && !e.ariaLabel && !e.labels?.length).length"
    )
    assert nameless == 0
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert {"interface", "translate", "ask", "labels", "task", "prompt", "send"} <= set(reached)
