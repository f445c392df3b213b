"""The page in a real browser: headless Chromium, which must be installed."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from made_up_runs import ARABIC, UNSAFE

from instructalign.report import Report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")

PHONE = 390
WINDOW = "500,9000"  # Chromium opens no window narrower than that
NAMES = ("page", "l1", "l2", "l3")

# The report stands in a frame as wide as a phone; the page around it looks inside and writes down what it sees.
HARNESS = """<!doctype html><body style="margin:0"><iframe id="frame" src="report.html"
style="width:%dpx;height:%dpx;border:0;display:block"></iframe><script>
const frame = document.getElementById("frame"), errors = [];
frame.contentWindow.onerror = message => errors.push(String(message));
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow, box = e => {
    const r = e.getBoundingClientRect();
    return [r.left, r.top, r.width, r.height].map(Math.round);
  };
  const foreign = [...page.querySelectorAll("bdi")];
  const seen = {
    errors,
    title: page.title,
    scripts: page.scripts.length,
    resources: view.performance.getEntriesByType("resource").map(entry => entry.name),
    width: page.documentElement.scrollWidth,
    plots: [...page.querySelectorAll("svg")].map(svg => ({
      box: box(svg), label: svg.parentElement.getAttribute("aria-label"),
      outside: [...svg.querySelectorAll("text")].filter(text => {
        const [a, b] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
        return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
      }).map(text => text.textContent),
    })),
    tables: [...page.querySelectorAll("table")].filter(table => !table.closest("details")).map(table => ({
      width: table.scrollWidth, room: table.parentElement.clientWidth })),
    captions: [...page.querySelectorAll("caption")].map(e => Math.round(e.getBoundingClientRect().width)),
    directions: foreign.map(e => [e.textContent, view.getComputedStyle(e).direction]),
  };
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
};
</script>"""


class Site:
    """A folder served on this machine, and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def browse(address: str, profile: Path, *options: str) -> tuple[str, str]:
    """What headless Chromium prints on a page, and its log."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={profile}", *options, address]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode(), done.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def site(demo_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The report, with texts that would call this very site if they were taken for HTML."""
    folder = tmp_path_factory.mktemp("site")
    served = Site(folder)
    page = demo_report.html.read_text(encoding="utf-8")
    assert "http://127.0.0.1:9/x" in page
    (folder / "report.html").write_text(page.replace("http://127.0.0.1:9", served.address), encoding="utf-8")
    (folder / "phone.html").write_text(HARNESS % (PHONE, 9000), encoding="utf-8")
    yield served
    served.close()


@pytest.fixture(scope="module")
def visit(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What was seen on the phone, and the browser's log."""
    profile = tmp_path_factory.mktemp("profile")
    size = f"--window-size={WINDOW}"
    printed, log = browse(f"{site.address}/phone.html", profile, size, "--dump-dom", "--virtual-time-budget=20000")
    found = re.search(r'<pre id="seen">(.*?)</pre>', printed, re.DOTALL)
    assert found, printed[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen, log


def test_it_renders_without_a_request_or_an_error(visit: tuple[dict[str, Any], str], site: Site) -> None:
    seen, log = visit
    assert seen["title"] == "Comparison of 3 runs"
    assert seen["errors"] == []
    assert "CONSOLE" not in log  # where the browser would say that it refused to run or load something
    assert seen["scripts"] == 0
    assert seen["resources"] == []
    assert set(site.asked) - {"/favicon.ico"} == {"/phone.html", "/report.html"}


def test_it_fits_a_phone(visit: tuple[dict[str, Any], str]) -> None:
    seen, _ = visit
    assert seen["width"] <= PHONE
    assert all(table["width"] <= table["room"] for table in seen["tables"][:4])
    assert all(caption <= PHONE for caption in seen["captions"])


def test_every_plot_stands_on_the_page_with_its_text_inside(visit: tuple[dict[str, Any], str]) -> None:
    seen, _ = visit
    assert len(seen["plots"]) == 11  # three runs: languages, training, shares; and the two scatters
    for plot in seen["plots"]:
        assert plot["box"][2] > 300
        assert plot["box"][3] > 100
        assert plot["outside"] == []
        assert plot["label"]


def test_unsafe_and_right_to_left_text_is_text(visit: tuple[dict[str, Any], str], site: Site) -> None:
    directions = {text.rsplit(" ", 1)[0]: way for text, way in visit[0]["directions"]}
    assert directions[ARABIC] == "rtl"
    assert directions[UNSAFE.replace("http://127.0.0.1:9", site.address)] == "ltr"


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_plots_are_painted(theme: int, site: Site, visit: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    """The pixels of each plot of languages show the colours of all three groups, on the page's colour."""
    picture = tmp_path / "page.png"
    options = (f"--window-size={WINDOW}", f"--blink-settings=preferredColorScheme={1 - theme}")
    browse(f"{site.address}/phone.html", tmp_path / "profile", *options, f"--screenshot={picture}")
    pixels = (255 * matplotlib.image.imread(picture)[..., :3]).round().astype(int)
    plots = [plot for plot in visit[0]["plots"] if plot["label"].startswith("Score before and after")]
    assert len(plots) == 3
    for plot in plots:
        left, top, width, height = plot["box"]
        area = pixels[top : top + height, left : left + width].reshape(-1, 3)
        shown = {name: int((np.abs(area - colour_of(name, theme)).max(1) <= 2).sum()) for name in NAMES}
        assert shown["page"] > len(area) / 2
        assert min(shown[group] for group in ("l1", "l2", "l3")) > 100, shown


def colour_of(name: str, theme: int) -> list[int]:
    """A colour of the style sheet's first (light) or second (dark) theme, as red, green and blue."""
    style = files("instructalign.report").joinpath("style.css").read_text(encoding="utf-8")
    digits = re.findall(rf"--{name}: #(\w+);", style)[theme]
    return [int(digits[i : i + 2], 16) for i in (0, 2, 4)]
