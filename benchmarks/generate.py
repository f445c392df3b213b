"""How fast parallel rows become alignment instructions, beside the method of the first InstructAlign code.

    python benchmarks/generate.py --flores ../shared/data/flores200 --out docs/results/generate.md

Measured in one run, the contenders taking turns, in examples per second of processor time on the same
FLORES-200 rows, MLM, TLM, MT and XSS in equal parts. The first code's method is written here after the paper
and a description of that code: NLTK's word tokenizer on every language, NumPy draws from global state, chains
of str.replace. It is spared the sentence splitter that nltk.word_tokenize runs before it, because that needs
a download.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from nltk.tokenize import NLTKWordTokenizer

from instructalign.config import Entry, InstructionsConfig, LanguagesConfig
from instructalign.data import read_corpora
from instructalign.data.corpus import RowStore
from instructalign.instructions import InstructionStream, generate_instructions, load_templates, write_stream
from instructalign.languages import english_name
from instructalign.types import ParallelRow
from machine import describe, put

KNOWN = ["eng", "ind"]
NEW = ["jav", "sun", "min", "ace", "bjn", "ban", "bug"]
OBJECTIVES = ["mlm", "tlm", "mt", "xss"]


def make_stream(rows: RowStore | list[ParallelRow]) -> InstructionStream:
    """Our stream over some rows, with the defaults and English prompts."""
    config = InstructionsConfig(objectives={name: Entry(name=name) for name in OBJECTIVES})
    return InstructionStream(rows, config, LanguagesConfig(known=KNOWN, new=NEW), KNOWN, seed=42)


class FirstMethod:
    """Examples as the first code made them, as far as its speed depends on it."""

    def __init__(self, rows: list[ParallelRow], seed: int) -> None:
        np.random.seed(seed)
        self.rows = rows
        self.pairs = [(a, b) for a in KNOWN for b in NEW] + [(b, a) for a in KNOWN for b in NEW]
        self.tokenize = NLTKWordTokenizer().tokenize
        slots = ("source", "target", "text", "noisy", "context", "first", "second")
        self.templates: dict[str, list[str]] = {}
        for name, several in load_templates(["eng"], OBJECTIVES).items():
            marked = [template.prompt for template in several[:6]]
            for slot in slots:
                marked = [prompt.replace(f"{{{slot}}}", f"[{slot.upper()}]") for prompt in marked]
            self.templates[name] = marked

    def _infill(self, words: list[str]) -> list[str]:
        return ["___" if np.random.rand() < 0.2 else word for word in words]

    def _delete(self, words: list[str]) -> list[str]:
        return [word for word in words if np.random.rand() >= 0.2]

    def _permute(self, words: list[str]) -> list[str]:
        return [words[i] for i in np.random.permutation(len(words))]

    def _noise(self, text: str) -> str:
        words = self.tokenize(text)
        draw = np.random.rand()
        if draw < 0.24:
            words = self._infill(words)
        elif draw < 0.48:
            words = self._delete(words)
        elif draw < 0.72:
            words = self._permute(words)
        elif draw < 0.80:
            words = self._delete(self._infill(words))
        elif draw < 0.88:
            words = self._permute(self._infill(words))
        elif draw < 0.96:
            words = self._permute(self._delete(words))
        else:
            words = self._permute(self._delete(self._infill(words)))
        return " ".join(words)

    def example(self) -> tuple[str, str]:
        """The next prompt and answer."""
        row = self.rows[np.random.randint(len(self.rows))]
        source, target = self.pairs[np.random.randint(len(self.pairs))]
        objective = OBJECTIVES[np.random.randint(len(OBJECTIVES))]
        prompt = self.templates[objective][np.random.randint(6)]
        prompt = prompt.replace("[SOURCE]", english_name(source)).replace("[TARGET]", english_name(target))
        first, second = row.texts[source], row.texts[target]
        if objective == "mlm":
            return prompt.replace("[NOISY]", self._noise(second)), second
        if objective == "tlm":
            return prompt.replace("[CONTEXT]", first).replace("[NOISY]", self._noise(second)), second
        if objective == "mt":
            return prompt.replace("[TEXT]", first), second
        if np.random.rand() < 0.5:
            return prompt.replace("[FIRST]", first).replace("[SECOND]", second), "yes"
        return prompt.replace("[FIRST]", self._noise(first)).replace("[SECOND]", self._noise(second)), "no"


def rate(make: Callable[[], object], count: int) -> float:
    """Examples per second of this process's time."""
    start = time.process_time()
    make()
    return count / (time.process_time() - start)


def take_turns(contenders: dict[str, Callable[[], object]], count: int, rounds: int) -> dict[str, list[float]]:
    """The rate of each in each round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, make in contenders.items():
            rates[name].append(rate(make, count))
    return rates


def train_tokenizer(rows: list[ParallelRow]) -> Callable[[str], list[int]]:
    """The encoder of a byte-level BPE of 8 000 pieces, trained on the rows."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator((text for row in rows for text in row.texts.values()), vocab_size=8000)
    return lambda text: tokenizer.encode(text).ids


def with_processes(stream: InstructionStream, count: int, processes: int) -> tuple[float, float]:
    """Seconds to write `count` examples as JSON lines: by the clock, and without waiting for a processor.

    The latter is the processor time of the parent and, since they share the work evenly, of one of its
    children; on a machine with nothing else to do the two are the same.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        write_stream(Path(folder) / "out.jsonl", stream, count, processes=processes)
        after = os.times()
    parent = after.user - before.user + after.system - before.system
    children = after.children_user - before.children_user + after.children_system - before.children_system
    return after.elapsed - before.elapsed, parent + children / processes


def memory(count: int) -> tuple[float, float]:
    """Peak memory in MB, and seconds, to lay a stream over `count` pairs and make 20 000 examples."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak, seconds = pool.apply(_memory, (count,))
    return peak, seconds


def _memory(count: int) -> tuple[float, float]:
    def rows() -> Iterator[ParallelRow]:
        for i in range(count):
            text = f"{i} is the number of this sentence, and {i * 7919 % 1000003} is another number"
            yield ParallelRow(str(i), {"eng": text, "jav": f"{text} uga"})

    start = time.perf_counter()
    config = InstructionsConfig(objectives={name: Entry(name=name) for name in OBJECTIVES})
    languages = LanguagesConfig(known=["eng"], new=["jav"])
    stream = InstructionStream(RowStore(rows()), config, languages, ["eng"], seed=42)
    for _ in generate_instructions(stream, 20_000):
        pass
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return peak / 1024, time.perf_counter() - start


def compare(rows: list[ParallelRow], count: int, rounds: int) -> Iterator[str]:
    """The rates of both methods, without and with tokenisation."""
    stream, first = make_stream(rows), FirstMethod(rows, seed=42)
    texts = [(made.prompt, made.answer) for made in generate_instructions(stream, count)]
    encode = train_tokenizer(rows)
    contenders: dict[str, Callable[[], object]] = {
        "instructalign": lambda: [(made.prompt, made.answer) for made in generate_instructions(stream, count)],
        "the first code's method": lambda: [first.example() for _ in range(count)],
        "instructalign, with tokenisation": lambda: [
            (encode(made.prompt), encode(made.answer)) for made in generate_instructions(stream, count)
        ],
        "the first code's method, with tokenisation": lambda: [
            tuple(map(encode, first.example())) for _ in range(count)
        ],
        "the tokenizer alone (the limit)": lambda: [(encode(prompt), encode(answer)) for prompt, answer in texts],
    }
    rates = take_turns(contenders, count, rounds)
    middle = {name: statistics.median(several) for name, several in rates.items()}
    yield "| method | examples per CPU second (median) | least | most |\n| --- | ---: | ---: | ---: |"
    for name, several in rates.items():
        yield f"| {name} | {middle[name]:,.0f} | {min(several):,.0f} | {max(several):,.0f} |"
    ours, theirs, *_ = middle.values()
    limit = middle["the tokenizer alone (the limit)"]
    yield f"\ninstructalign makes **{ours / theirs:.1f} times** as many examples as the first code's method."
    yield (
        f"With tokenisation it reaches {middle['instructalign, with tokenisation'] / limit:.0%} of the rate of "
        f"the tokenizer alone; the first method {middle[list(middle)[3]] / limit:.0%}."
    )


def scale(rows: list[ParallelRow], count: int) -> Iterator[str]:
    """Time to write JSON lines with one process and with two, taking turns."""
    stream = make_stream(rows)
    runs: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(3):
        for processes, several in runs.items():
            several.append(with_processes(stream, count, processes))
    clock = {processes: min(seconds for seconds, _ in several) for processes, several in runs.items()}
    alone = {processes: min(seconds for _, seconds in several) for processes, several in runs.items()}
    yield "| processes | seconds by the clock | seconds without waiting for a processor |\n| ---: | ---: | ---: |"
    for processes in runs:
        yield f"| {processes} | {clock[processes]:.1f} | {alone[processes]:.1f} |"
    yield (
        f"\nTwo processes are {alone[1] / alone[2]:.2f} times as fast as one where each has its own processor, "
        f"and {clock[1] / clock[2]:.2f} times by the clock here, where other programs ran (load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores by the end). Starting the processes and writing the "
        "file are included."
    )


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--flores", type=Path, default=Path("../shared/data/flores200"), help="FLORES-200, dev and devtest"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    parser.add_argument("--count", type=int, default=20_000, help="examples a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, nargs="*", default=[10_000, 1_000_000, 10_000_000])
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    about = describe("regex", "numpy", "nltk", "tokenizers")
    entry = Entry(name="flores", options={"path": given.flores, "splits": ["dev", "devtest"]})
    rows = list(read_corpora([entry], [*KNOWN, *NEW]))
    parts = [
        "# Making instructions: speed and memory",
        f"Made by `python benchmarks/generate.py {' '.join(sys.argv[1:])}` on {about}.",
        f"{len(rows):,} FLORES-200 rows in {len(KNOWN) + len(NEW)} languages, MLM, TLM, MT and XSS "
        f"in equal parts; {given.count:,} examples a turn, {given.rounds} turns each, the methods taking turns.",
        "## Beside the first code's method",
        "\n".join(compare(rows, given.count, given.rounds)),
        "## With two processes",
        f"{given.count * 10:,} examples written as JSON lines, the best of three.",
        "\n".join(scale(rows, given.count * 10)),
    ]
    if given.pairs:
        parts += [
            "## Memory",
            "Peak memory of a process that stores a number of sentence pairs, lays a stream over them and makes "
            "20 000 examples.",
            "| pairs | peak memory (MB) | seconds |\n| ---: | ---: | ---: |\n"
            + "\n".join("| {:,} | {:,.0f} | {:,.0f} |".format(count, *memory(count)) for count in given.pairs),
        ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
