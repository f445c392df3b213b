"""A page on this machine with a run's model before and after its training, side by side.

It is served on loopback to whoever knows the token in its address. Requests that come through another host's name
or from another site's page are refused. The server keeps nothing of what is asked: each answer goes to the request
that asked for it, one after the other, since there is one model.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import parse_qs, urlsplit

import torch
from langcodes import standardize_tag

from instructalign.config import Config
from instructalign.errors import InstructAlignError, ModelError
from instructalign.evaluation.likelihood import score_batch
from instructalign.evaluation.prompting import make_queries
from instructalign.evaluation.tasks import Task, load_task
from instructalign.files import json_line
from instructalign.interact.chat_session import stream_answer
from instructalign.interact.model_choice import choose_model, load_for_use, translation_prompt
from instructalign.languages import name_in
from instructalign.training.generation import LINE_END
from instructalign.training.models import LoadedModel
from instructalign.types import Item

log = logging.getLogger(__name__)

Side = Literal["before", "after"]
LONGEST = 4000
"""The most characters of a text that is sent to a model."""

_MOST_BYTES = 1 << 17  # of a request
_MOST_WAITING = 32
_NEW_TOKENS = 256
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_TEMPLATE = files("instructalign.interact") / "playground.html"


class Refused(Exception):
    """A request that is not answered, with the reason for whoever sent it."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Playground:
    """What the page can ask of a run.

    Args:
        run: the run's folder, in which feedback is kept.
        config: its configuration.
        models: the model before and after training.
    """

    def __init__(self, run: Path, config: Config, models: Mapping[Side, LoadedModel]) -> None:
        self._run, self._config, self._models = run, config, models
        languages = config.languages
        self._codes = [*languages.known, *languages.new, *languages.related]
        self._tasks: dict[str, Task] = {}
        for name in config.evaluation.tasks:
            try:
                task = load_task(name)
            except InstructAlignError as error:  # a user's own task that is gone
                log.warning("%s", error)
                continue
            if isinstance(task, Task) and task.labels is not None:
                self._tasks[task.name] = task
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._writing = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """What the page shows before anything is asked."""
        given = self._config.languages.names
        return {
            "run": self._run.resolve().name,
            "models": {side: Path(loaded.name).name for side, loaded in self._models.items()},
            "languages": [
                {
                    "code": code,
                    "tag": standardize_tag(code.replace("_", "-")),
                    "names": {tag: given.get(code) or name_in(code, tag) for tag in ("en", "id")},
                }
                for code in self._codes
            ],
            "target": self._config.languages.new[0],
            "tasks": [
                {"name": name, "title": task.title or name, "fields": task.texts, "prompts": list(task.prompts)}
                for name, task in self._tasks.items()
            ],
            "longest": LONGEST,
        }

    def answer(self, asked: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        """Answers a request, with `tell` called for each piece of the answer as it is made.

        Raises:
            Refused: the request makes no sense, or too many others wait.
            DataError: the model has no room for it.
        """
        loaded = self._models[_side(asked)]
        prompt = None if asked.get("kind") == "labels" else self._prompt(asked)
        task, wording, item = (None, "", None) if prompt is not None else self._item(asked)
        with self._turn(lambda ahead: tell({"waiting": ahead})):
            if task is not None and item is not None:
                queries = make_queries(loaded.codec, task, [(wording, item, ())], loaded.codec.context)
                likelihoods = torch.tensor(score_batch(loaded, queries)[0].labels)
                shares = torch.softmax(likelihoods.double(), 0).tolist()
                words = task.words(wording, item)
                made = [
                    {"label": label, "word": word, "share": share, "likelihood": float(value)}
                    for (label, word), share, value in zip(words.items(), shares, likelihoods, strict=True)
                ]
                tell({"labels": made, "done": True})
                return
            one_line = asked.get("kind") == "translate" and "\n" not in str(asked["text"]).strip()
            finished = stream_answer(
                loaded,
                [("user", str(prompt))],
                _NEW_TOKENS,
                lambda text: tell({"text": text}),
                stops=LINE_END if one_line else (),
            )[1]
        tell({"done": True, "unfinished": not finished})

    def keep_feedback(self, said: Mapping[str, Any]) -> None:
        """Adds a rating to the run's folder, in forms that replay data and corpora may have.

        `feedback/answers.jsonl` has a prompt, a completion and a label (KTO's form): replay drops what is labelled
        bad, and learns a better answer where one was given. A translation that is good, or was made better, is
        also a row of `feedback/eng-jav.jsonl`, a corpus of the format `jsonl`.

        Raises:
            Refused: the rating makes no sense.
        """
        prompt, better = self._prompt(said), _text(said, "better", empty=True)
        answer, rating = _text(said, "answer"), said.get("rating")
        if rating not in ("up", "down"):
            raise Refused(HTTPStatus.BAD_REQUEST, "rating: expected up or down")
        good = better or (answer if rating == "up" else "")
        record = {
            "prompt": prompt,
            "completion": good or answer,
            "label": bool(good),
            "rating": rating,
            "answer": answer,
            "comment": _text(said, "comment", empty=True),
            "task": f"feedback-{said['kind']}",
            "lang": said["target"] if said["kind"] == "translate" else "",
            "model": _side(said),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        folder = self._run / "feedback"
        folder.mkdir(exist_ok=True)
        with self._writing:
            with (folder / "answers.jsonl").open("ab") as file:
                file.write(json_line(record))
            if good and said["kind"] == "translate":
                row = dict(sorted([(said["source"], _text(said, "text")), (said["target"], good)]))
                with (folder / f"{'-'.join(row)}.jsonl").open("ab") as file:
                    file.write(json_line(row))

    def _prompt(self, asked: Mapping[str, Any]) -> str:
        text = _text(asked, "text")
        if asked.get("kind") == "ask":
            return text
        source, target = asked.get("source"), asked.get("target")
        if asked.get("kind") != "translate" or source not in self._codes or target not in self._codes:
            raise Refused(HTTPStatus.BAD_REQUEST, f"kind, source, target: one of {', '.join(self._codes)} each")
        if source == target:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{source} → {target}: two languages, please")
        return translation_prompt(self._config, str(source), str(target))(text)

    def _item(self, asked: Mapping[str, Any]) -> tuple[Task, str, Item]:
        task, fields, wording = self._tasks.get(str(asked.get("task"))), asked.get("fields"), asked.get("prompt")
        if task is None or wording not in task.prompts or not isinstance(fields, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, f"task, prompt, fields: one of {', '.join(self._tasks)}")
        texts = {name: _text(fields, name) for name in task.texts}
        return task, str(wording), Item("", texts, next(iter(task.labels or {})))

    @contextmanager
    def _turn(self, wait: Callable[[int], None]) -> Iterator[None]:
        """One at a time, in the order in which they came; `wait` is called with the number of those before."""
        me = object()
        with self._changed:
            if len(self._queue) >= _MOST_WAITING:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_WAITING} others wait: try again later")
            self._queue.append(me)
        try:
            ahead = -1
            while ahead:
                with self._changed:
                    if self._queue.index(me) == ahead:
                        self._changed.wait(timeout=5)
                    ahead = self._queue.index(me)
                if ahead:
                    wait(ahead)  # also finds that the one who asked is gone
            yield
        finally:
            with self._changed:
                self._queue.remove(me)
                self._changed.notify_all()


def _side(record: Mapping[str, Any]) -> Side:
    for side in get_args(Side):
        if record.get("side") == side:
            return cast("Side", side)
    raise Refused(HTTPStatus.BAD_REQUEST, "side: expected before or after")


def _text(record: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = record.get(name, "" if empty else None)
    if not isinstance(value, str) or not (value.strip() or empty) or len(value) > LONGEST:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: expected a text of at most {LONGEST:,} characters")
    return value.strip()


class _Handler(BaseHTTPRequestHandler):
    timeout = 60  # seconds that a client may keep a connection waiting
    server: PlaygroundServer

    def do_GET(self) -> None:
        """The page."""
        try:
            self._check()
            if urlsplit(self.path).path != "/":
                raise Refused(HTTPStatus.NOT_FOUND, "there is only one page here")
        except Refused as refused:
            self._reply(refused.status, f"{refused.reason}\n".encode(), "text/plain; charset=utf-8")
            return
        nonce = secrets.token_urlsafe(16)
        facts = json.dumps(self.server.playground.facts(), ensure_ascii=False).replace("<", "\\u003c")
        page = _TEMPLATE.read_text(encoding="utf-8").replace("__NONCE__", nonce).replace("__FACTS__", facts)
        self._reply(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", nonce)

    def do_POST(self) -> None:
        """An answer, as lines of JSON while it is written; or feedback, which is kept."""
        begun = False

        def tell(line: dict[str, Any]) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._head(HTTPStatus.OK, "application/x-ndjson; charset=utf-8")
            self.wfile.write(json_line(line))
            self.wfile.flush()

        try:
            self._check()
            asked = self._body()
            match urlsplit(self.path).path:
                case "/answer":
                    self.server.playground.answer(asked, tell)
                case "/feedback":
                    self.server.playground.keep_feedback(asked)
                    tell({"saved": True})
                case _:
                    raise Refused(HTTPStatus.NOT_FOUND, "there is only /answer and /feedback")
        except (ConnectionError, TimeoutError):
            return  # the page was closed: nobody waits for the rest
        except (Refused, InstructAlignError, OSError) as error:
            status = error.status if isinstance(error, Refused) else HTTPStatus.UNPROCESSABLE_ENTITY
            line = json_line({"error": str(error)})
            try:
                if begun:
                    self.wfile.write(line)
                else:
                    self._reply(status, line, "application/json; charset=utf-8")
            except OSError:
                return

    def _check(self) -> None:
        """Refuses who does not know the token, another host's name (DNS rebinding), and other sites' pages."""
        host = self.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name not in _LOOPBACK:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this page is for this machine alone")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        # A link may lead to the page; only the page itself may ask it something.
        links = self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if (origin is not None and origin != f"http://{host}") or (
            site not in ("none", "same-origin") and not links
        ):
            raise Refused(HTTPStatus.FORBIDDEN, "requests from other pages are refused")
        given = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "the address needs the token that `instructalign play` printed")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {_MOST_BYTES:,} bytes")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return asked

    def _reply(self, status: HTTPStatus, body: bytes, kind: str, nonce: str = "") -> None:
        self._head(status, kind, nonce, len(body))
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, nonce: str = "", length: int | None = None) -> None:
        own = f"'nonce-{nonce}'" if nonce else "'none'"
        policy = f"default-src 'none'; script-src {own}; style-src {own}; connect-src 'self'; img-src data:"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header(
            "Content-Security-Policy",
            f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        for name, value in {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an address has the token, and what is asked is nobody's business."""


class PlaygroundServer(ThreadingHTTPServer):
    """Serves a playground on loopback.

    Args:
        playground: what is served; None where it is set later, before the server serves.
        port: 0 for any free one.

    Attributes:
        token: what the address must have.
        address: the page's address, with the token.
    """

    daemon_threads = True

    playground: Playground

    def __init__(self, playground: Playground | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        if playground is not None:
            self.playground = playground
        self.token = secrets.token_urlsafe(24)
        self.address = f"http://127.0.0.1:{self.server_port}/?token={self.token}"


def open_playground(run: str, base: str | None = None) -> Playground:
    """Loads a run's model before and after training.

    Args:
        run: the run's folder.
        base: where the base model is now; by default where the run's configuration has it.

    Raises:
        ModelError: it is no run, has no adapted model, or one of the two cannot be loaded.
    """
    chosen = choose_model(run)
    if chosen.config is None or chosen.run is None:
        raise ModelError(
            f"{run} is no run: it has no config.yaml. A model alone can be talked to: instructalign chat"
        )
    before = chosen.config.answering_model
    if base is not None:
        before = before.model_copy(update={"base": base, "revision": None})
    return Playground(
        chosen.run, chosen.config, {"before": load_for_use(before), "after": load_for_use(chosen.model)}
    )
