"""Cleaning, deduplication and generation on a Ray cluster of two workers, with the same result as in one process.

    python benchmarks/cluster.py --out docs/results/cluster.md

A made-up corpus of pairs of sentences (13 words, 60 to 70 characters a side) is written as four pairs of files.
In a hundred pairs there are three that stand there already, three that do but for a word, two with a damaged
character and one without a translation. It is read, cleaned and divided, and instructions (TLM, MT and XSS) are
made of it: by one process, and on a local Ray cluster of a head and two nodes of one processor each, on the
loopback interface alone. Rows, counts, what each filter took out, the file of rejects and the instructions are
compared byte for byte. Memory is the most that the process had in use which starts the work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.files import file_hash
from instructalign.instructions import write_stream
from instructalign.mixture.training_data import build_instructions, prepare_corpus
from instructalign.types import ParallelRow
from machine import describe, put
from read import sentences

FILES = 4
HEAD = (
    "| pairs | filters | instructions | | reading and cleaning, s | instructions, s | memory, MB |\n"
    "| ---: | --- | ---: | --- | ---: | ---: | ---: |"
)


def write_corpus(folder: Path, pairs: int) -> None:
    """The files of the corpus, with some pairs that filters find."""
    draw = random.Random(3)
    earlier: list[tuple[str, str]] = []
    made = sentences(pairs)
    for file in range(FILES):
        with (folder / f"{file}.en").open("w") as english, (folder / f"{file}.id").open("w") as indonesian:
            for _ in range(file * pairs // FILES, (file + 1) * pairs // FILES):
                one, other = spoil(*next(made), earlier, draw)
                english.write(one + "\n")
                indonesian.write(other + "\n")


def spoil(one: str, other: str, earlier: list[tuple[str, str]], draw: random.Random) -> tuple[str, str]:
    """The pair, or with some probability one that a filter takes out."""
    chance = draw.random()
    if chance < 0.06 and len(earlier) == 1000:
        again = earlier[draw.randrange(1000)]
        return again if chance < 0.03 else (f"{again[0]} too", again[1])
    if len(earlier) < 1000:
        earlier.append((one, other))
    if 0.06 <= chance < 0.08:
        return f"{one[:20]}\x01{one[20:]}", other
    return (one, "") if 0.08 <= chance < 0.09 else (one, other)


def configure(folder: Path, preset: str, rejects: str) -> Config:
    """The configuration of the comparison."""
    files = [{"format": "moses", "files": {"en": f"{n}.en", "id": f"{n}.id"}} for n in range(FILES)]
    settings = {
        "model": {"base": "none"},
        "languages": {"known": ["eng"], "new": ["ind"]},
        "corpora": files,
        "filter": {"preset": preset, "rejects": rejects},
        "instructions": {"heldout": 1000},
        "training": {"steps": 1},
    }
    return build_config(settings, folder=folder)


def digest(rows: Sequence[ParallelRow]) -> str:
    """A hash of rows: their ids and texts, in order."""
    found = sha256()
    for row in rows:
        found.update(json.dumps([row.id, dict(row.texts)]).encode())
    return found.hexdigest()


@contextmanager
def two_workers() -> Iterator[None]:
    """A cluster of a head that does no work and two nodes of one processor each, and a session on it."""
    os.environ.update({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"})
    from ray.cluster_utils import Cluster

    from instructalign import ray_data

    local = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            local.add_node(num_cpus=1, include_dashboard=False)
        local.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = local.address
        with ray_data.ray_session():
            yield
    finally:
        local.shutdown()


def work(engine: str, folder: Path, preset: str, count: int) -> dict[str, Any]:
    """Reads, cleans and generates in this process or from it; says what that took, and what came of it."""
    config = configure(folder, preset, f"rejects-{engine}.jsonl")
    out = folder / f"made-{engine}.jsonl"
    start = time.perf_counter()
    if engine == "local":
        train, heldout, _ = prepare_corpus(config)
        cleaned = time.perf_counter()
        write_stream(out, build_instructions(config, train), count)
        done = time.perf_counter()
    else:
        from instructalign import ray_data

        with two_workers():
            start = time.perf_counter()
            train, heldout, _ = ray_data.prepare_corpus_on_ray(config, folder / "store")
            cleaned = time.perf_counter()
            write_stream(out, build_instructions(config, train), count, spread=ray_data.map_on_cluster)
            done = time.perf_counter()
    peak = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return {
        "cleaning": cleaned - start,
        "writing": done - cleaned,
        "memory": peak / 1024,
        "counts": {"train": asdict(train.counts), "heldout": asdict(heldout.counts)},
        "same": {
            "rows": digest(train.rows),
            "held-out rows": digest(heldout.rows),
            "counts": [asdict(train.counts), asdict(heldout.counts)],
            "examples of what was taken out": {name: asdict(each) for name, each in train.removed.items()},
            "rejects": file_hash(folder / f"rejects-{engine}.jsonl"),
            "instructions": file_hash(out),
        },
    }


def compare(pairs: int, preset: str, count: int) -> tuple[list[str], str]:
    """The lines of the table for one corpus, and what was found to be the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, pairs)
        found = {}
        for engine in ("local", "ray"):
            command = [sys.executable, __file__, "--engine", engine, "--folder", name, "--preset", preset]
            done = subprocess.run([*command, "--count", str(count)], check=True, capture_output=True, text=True)
            found[engine] = json.loads(done.stdout.splitlines()[-1])
    lines = []
    for engine, title in (("local", "one process"), ("ray", "Ray, two workers")):
        each = found[engine]
        lines.append(
            f"| {pairs:,} | {preset} | {count:,} | {title} | {each['cleaning']:.1f} | {each['writing']:.1f} "
            f"| {each['memory']:,.0f} |"
        )
    ours, theirs = found["local"]["same"], found["ray"]["same"]
    different = [what for what in ours if ours[what] != theirs[what]]
    if different:
        raise SystemExit(f"not the same with {preset}: {', '.join(different)}")
    dropped = found["local"]["counts"]["train"]["dropped"]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
    kept = found["local"]["counts"]["train"]["kept"]
    return lines, f"{pairs:,} pairs, {preset}: **the same** in {', '.join(ours)}. {kept:,} rows kept; {reasons}."


def main() -> None:
    """Measures, compares, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--near", type=int, default=100_000, help="pairs of the comparison with near duplicates")
    parser.add_argument("--count", type=int, default=1_000_000, help="instructions")
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    for hidden in ("--engine", "--folder", "--preset"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(work(given.engine, Path(given.folder), given.preset, given.count)))
        return
    about = describe("ray", "pyarrow", "numpy")
    turns = [(given.pairs, "basic", given.count), (given.near, "strict", given.count // 10)]
    lines, said = [HEAD], []
    for turn in turns:
        more, sentence = compare(*turn)
        lines += more
        said.append(sentence)
        print("\n".join([*more, sentence]), file=sys.stderr)
    parts = [
        "# On a Ray cluster",
        f"Made by `python benchmarks/cluster.py {' '.join(sys.argv[1:])}` on {about}.",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "\n".join(lines),
        *said,
        "Starting the cluster is not counted; starting its processes is, and takes most of the time where a "
        "corpus is small.",
    ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
