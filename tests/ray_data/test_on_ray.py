"""The same on Ray itself, started by the session: loopback only, no dashboard, errors by their name."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instructalign.config_file import build_config
from instructalign.data import ContaminationCheck, ItemIndex, ItemText
from instructalign.errors import DataError
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import write_generated
from instructalign.ray_data.ray_session import ray_session


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(DataError, match=r"Ray Data is not installed: pip install 'instructalign\[ray\]'"),
        ray_session(),
    ):
        pass


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A session of two processes for all tests below."""
    if importlib.util.find_spec("ray") is None:  # not imported here: how it listens is settled by its import
        pytest.skip("Ray is not installed: pip install 'instructalign[ray]'")
    with ray_session(2):
        yield


def write_corpora(folder: Path) -> None:
    for name in ("one", "two", "three"):
        lines = [f"{name} sentence {i % 150} of many\tukara {name} {i % 150} saka akeh\n" for i in range(200)]
        lines[7] = "damaged\x01here\trusak\n"
        lines[90] = "only one side\t\n"
        (folder / f"{name}.tsv").write_text("eng\tjav\n" + "".join(lines), encoding="utf-8")


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"base": "none"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": f"{name}.tsv"} for name in ("one", "two", "three")],
        "filter": {"preset": "basic", "rejects": "rejects.jsonl"},
        "instructions": {"objectives": {"mt": 1, "xss": 1, "align": 1}, "heldout": 20},
        "training": {"steps": 1},
        **changes,
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("preset", "name"), [("basic", "made.jsonl"), ("strict", "made.parquet")])
def test_the_files_are_the_same(ray: None, tmp_path: Path, preset: str, name: str) -> None:
    write_corpora(tmp_path)
    config = build_config(settings(filter={"preset": preset, "rejects": "rejects.jsonl"}), folder=tmp_path)
    write_generated(config, tmp_path / f"local-{name}", 12_000)
    rejects = (tmp_path / "rejects.jsonl").read_bytes()
    told: list[tuple[str, int]] = []
    write_generated(
        config,
        tmp_path / f"ray-{name}",
        12_000,
        engine="ray",
        processes=2,
        progress=lambda what, done, total, remark: told.append((what, done)),
    )
    assert (tmp_path / f"ray-{name}").read_bytes() == (tmp_path / f"local-{name}").read_bytes()
    assert (tmp_path / "rejects.jsonl").read_bytes() == rejects
    assert b'"duplicates"' in rejects
    assert ("cleaning", 600) in told
    assert told[-1] == ("writing", 12_000)
    assert not list(tmp_path.glob(".*rows"))  # nothing is left behind


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_test_items_are_dropped_the_same(ray: None, tmp_path: Path) -> None:
    from instructalign import ray_data

    write_corpora(tmp_path)
    config = build_config(settings(contamination="drop"), folder=tmp_path)
    texts = [ItemText("mood", str(i), "jav", f"Ukara TWO {i} saka akeh!") for i in range(5)]
    check = ContaminationCheck("drop", ItemIndex(texts), "")
    ours, theirs = prepare_corpus(config, check), ray_data.prepare_corpus_on_ray(config, tmp_path / "store", check)
    assert [list(ours[0]), list(ours[1]), ours[2]] == [list(theirs[0]), list(theirs[1]), theirs[2]]
    assert ours[0].counts == theirs[0].counts
    assert theirs[2].dropped >= 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_error_in_a_task_is_ours(ray: None, tmp_path: Path) -> None:
    write_corpora(tmp_path)
    (tmp_path / "two.tsv").write_bytes(b"eng\tjav\none\t\xff\xfe\n")
    config = build_config(settings(), folder=tmp_path)
    with pytest.raises(DataError, match=r"two\.tsv:2: not UTF-8 \(byte 0xff at column 5\)"):
        write_generated(config, tmp_path / "made.jsonl", 10, engine="ray")
    assert not (tmp_path / "made.jsonl").exists()
    assert not list(tmp_path.glob(".*rows"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of open ports")
def test_ray_listens_on_the_loopback_interface_alone(ray: None) -> None:
    """Every port that a process of this session listens at, by the numbers of its open sockets."""
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                listening[fields[9]] = fields[1].rpartition(":")[0]
    ours = {listening[socket] for socket in sockets_of(descendants(os.getpid())) if socket in listening}
    assert ours  # the test sees them
    # 127.0.0.1, and the same as IPv6 writes it
    assert ours <= {"0100007F", "0000000000000000FFFF00000100007F"}


def descendants(process: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sockets_of(processes: set[int]) -> set[str]:
    found = set()
    for process in processes:
        try:
            links = [str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()]
        except OSError:
            continue
        found |= {link[8:-1] for link in links if link.startswith("socket:[")}
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_line(ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructalign.cli import main

    write_corpora(tmp_path)
    (tmp_path / "run.yaml").write_text(json.dumps(settings()), encoding="utf-8")  # JSON is YAML
    arguments = ["generate", "run.yaml", "--count", "50", "--out", "made.jsonl"]
    monkeypatch.chdir(tmp_path)
    for extra in ([], ["--engine", "ray", "--store", "rows"]):
        monkeypatch.setattr("sys.argv", ["instructalign", *arguments, *extra])
        with pytest.raises(SystemExit, match="0"):
            main()
        made = (tmp_path / "made.jsonl").read_bytes()
        (tmp_path / "made.jsonl").rename(tmp_path / f"{len(extra)}.jsonl")
        assert made == (tmp_path / "0.jsonl").read_bytes()
    assert (tmp_path / "rows" / "corpus.json").exists()


def test_a_store_needs_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructalign.cli import main

    (tmp_path / "run.yaml").write_text(json.dumps(settings()), encoding="utf-8")
    arguments = ["generate", str(tmp_path / "run.yaml"), "--count", "5", "--out", str(tmp_path / "o.jsonl")]
    monkeypatch.setattr("sys.argv", ["instructalign", *arguments, "--store", str(tmp_path / "rows")])
    with pytest.raises(SystemExit, match="2"):
        main()
