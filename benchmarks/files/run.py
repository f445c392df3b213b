"""Runs the cases of `cases.py` against this checkout or another, each in a folder of its own.

    python benchmarks/files/run.py                                    # prints a line for each case
    python benchmarks/files/run.py --checkout /path/to/old --json old.json
    python benchmarks/files/run.py --shared ../shared/cases --out docs/results/files.md

A case is run through the command line as a user would (`instructalign generate c.yaml`). PASS: what
happened is the right behaviour. FAIL: it is not. NO FORMAT: that version had no reader for the format.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from cases import CASES, Case, Outcome, Pair

CRASHED, TIMED_OUT = 70, 71
_VERDICTS = ("PASS", "PASS (adapted)", "FAIL", "NO FORMAT")
ABOUT = """\
Each row is a public report, rebuilt as a small input of our own, with the right behaviour decided before it was
tried. PASS: read right, or refused in words that say what to do. FAIL: read wrong, lost in silence, refused
although a user may expect it to be read, refused without help, or a traceback. NO FORMAT: that version had no
reader for the format, where a user expects one. Numbered cases came with the issue (`shared/cases`) and run as
they stand, by their own `run-all`; those that cannot pass so, for a reason that is listed below, run once more as
is said there: PASS (adapted). The others were searched out and tried before anything was mended for them, in two
rounds: of the first 66, 21 were wrong at 1de5602, where the readers of the new formats had been written; of 11
that were searched out after those had been mended, one was (`vtt-rolling-captions`). The verdicts of the two
former versions are in `benchmarks/files/before.json`."""
_RENAMED = "FAIL as it stands: its check imports {}, renamed since. Adapted: it imports {}."
ADAPTED = {
    17: "FAIL as it stands: its script prints FAIL where something is wrong, and never PASS. Adapted: it prints "
    "PASS where the questions of the preview have the text of the field `input`; it printed no FAIL.",
    19: _RENAMED.format("`instructalign.mixture.build`", "`instructalign.mixture.training_data`"),
    20: _RENAMED.format(
        "`instructalign.instructions.segment` and `instructalign.corpora.itemindex`",
        "`instructalign.instructions.segmentation` and `instructalign.data.contamination`",
    ),
    21: _RENAMED.format("`instructalign.corpora.itemindex`", "`instructalign.data.contamination`")
    + " What was `how` of a match is `kind`.",
    26: _RENAMED.format("`make_codec` of `instructalign.training.model`", "`load_codec` of `…training.models`"),
}
"""Of the issue's cases, by number, those that cannot pass as they stand: why, and what is run instead."""
SHARED_KINDS = {
    **dict.fromkeys((1, 2, 5, 6, 15), "codes"),
    **dict.fromkeys((3, 4), "placeholders"),
    **dict.fromkeys((7, 9), "TMX and XLIFF"),
    **dict.fromkeys((10, 11, 12, 13, 14, 16, 18, 32), "files that are something else"),
    17: "replay data",
    19: "one sentence, many translations",
    **dict.fromkeys((20, 21), "Unicode"),
    **dict.fromkeys((22, 27, 28, 29, 30), "chat templates"),
    **dict.fromkeys((23, 25, 35), "model folders"),
    26: "special tokens",
    33: "test data",
}
MOVED = {
    "from instructalign.mixture.build import read_rows": (
        "from instructalign.mixture.training_data import prepare_corpus\n"
        "def read_rows(config): return prepare_corpus(config)[:2]"
    ),
    "from instructalign.instructions.segment import": "from instructalign.instructions.segmentation import",
    "from instructalign.corpora.itemindex import": "from instructalign.data.contamination import",
    "from instructalign.training.model import make_codec": (
        "from instructalign.config import ModelConfig\nfrom instructalign.training.models import load_codec\n"
        "def make_codec(base): return load_codec(ModelConfig(base=base))"
    ),
}
_SECONDS = 60


def run_case(case: Case, folder: Path, call: Callable[[list[str], Path], tuple[int, str]]) -> Outcome:
    """Builds a case in an empty folder and runs it; `call` takes a command's arguments and the folder."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if case.model:
        _make_model(folder / "model", in_parts="part" in case.name, more_tokens="fewer" in case.name)
    config: dict[str, Any] = {
        "model": {"base": "model" if case.model else "toy"},
        "languages": {"known": ["eng"], "new": [case.new]},
        "corpora": [dict(case.corpus)],
        "instructions": {"objectives": {"mt": 1}, "heldout": 0},
        "training": {"steps": 3, "batch_size": 4, "max_length": 256, "report_to": [], "learning_rate": 1.0e-3},
        **case.more,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    instructions = folder / "out.jsonl"
    command = [case.command[0], "c.yaml", *case.command[1:]]
    if case.command[0] == "generate":
        command += ["--count", "160", "--out", instructions.name]
    code, said = call(command, folder)
    return Outcome(code, said, _pairs(instructions, case.new) if instructions.exists() else frozenset())


def _in_own_process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The exit status of a command in a process of its own, and what it printed."""
    log = folder / "log.txt"
    child = (
        os.fork()
    )  # cheap: the libraries are loaded already, and a case can neither crash nor change this process
    if child == 0:
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = ["instructalign", *arguments]
        signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMED_OUT))
        signal.alarm(_SECONDS)
        status = CRASHED
        try:
            from instructalign.cli import main

            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8", errors="replace")


def _pairs(path: Path, new: str) -> frozenset[Pair]:
    """The pairs of an English text and its translation in a file of translation instructions."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    into: dict[str, set[str]] = {}
    for record in records:
        into.setdefault(record["target"], set()).add(record["answer"])
    pairs = set()
    for record in records:
        sources = [text for text in into.get(record["source"], ()) if text in record["prompt"]]
        pair = (max(sources, key=len, default="?"), record["answer"])
        pairs.add(pair if record["source"] == "eng" else pair[::-1])
    return frozenset(pairs)


def _make_model(folder: Path, *, in_parts: bool, more_tokens: bool) -> None:
    """A random model of a few thousand parameters, with a chat template; or one without a part of its weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "</s>", "<unk>"]
    bytes_only = Tokenizer(
        models.BPE({text: i for i, text in enumerate(specials + letters)}, [], unk_token="<unk>")
    )
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    shape = LlamaConfig(
        vocab_size=len(tokenizer) + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    model = LlamaForCausalLM(shape)
    if more_tokens:
        tokenizer.add_tokens([f"<word {i}>" for i in range(8)] + ["goats", "grass"])  # beyond the embeddings
        tokenizer.save_pretrained(folder)
    if not in_parts:
        model.save_pretrained(folder)
        return
    model.save_pretrained(folder, max_shard_size="100KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    index = folder / "model.safetensors.index.json"
    text = index.read_text()
    for part in parts[1:]:
        text = text.replace(part.name, "model-00002-of-00002.safetensors")
        part.unlink()
    parts[0].rename(folder / "model-00001-of-00002.safetensors")
    index.write_text(text.replace(parts[0].name, "model-00001-of-00002.safetensors"))


def verdict_of(case: Case, outcome: Outcome) -> tuple[str, str]:
    """PASS, FAIL or NO FORMAT, and what was wrong."""
    said = " ".join(outcome.said.split())
    if "unknown corpus format" in said or "unknown format" in said:
        return "NO FORMAT", ""
    problem = case.check(outcome)
    if outcome.code in (CRASHED, TIMED_OUT):
        problem = f"{'traceback' if outcome.code == CRASHED else 'too slow'}: {said[-200:]}"
    return ("FAIL", problem) if problem else ("PASS", "")


def run_all(names: Sequence[str]) -> dict[str, list[str]]:
    """The verdict of each case by its name, and what was wrong."""
    verdicts = {}
    for case in CASES:
        if not names or case.name in names:
            with tempfile.TemporaryDirectory() as folder:
                verdict, problem = verdict_of(case, run_case(case, Path(folder), _in_own_process))
            print(f"{verdict:9} {case.name:38} {problem[:400]}", flush=True)
            verdicts[case.name] = [verdict, problem]
    return verdicts


def run_shared(cases: Path, source: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The verdicts of the cases that the issue came with, by their `run-all`: as they stand, then adapted."""
    with tempfile.TemporaryDirectory() as temporary:
        copy, commands = Path(temporary) / "cases", Path(temporary) / "bin"
        commands.mkdir()
        for name, run in (
            ("instructalign", f'"{sys.executable}" -m instructalign'),
            ("python", f'"{sys.executable}"'),
        ):
            (commands / name).write_text(f'#!/bin/bash\nexport PYTHONPATH="{source}"\nexec {run} "$@"\n')
            (commands / name).chmod(0o755)
        verdicts = _run_folder(cases, commands, names)
        again = [name for name, (verdict, _) in verdicts.items() if verdict == "FAIL" and int(name[:2]) in ADAPTED]
        if not again:
            return verdicts
        shutil.copytree(cases, copy)
        for script in copy.glob("*/check.py"):  # they import what has moved since
            text = script.read_text(encoding="utf-8")
            for old, new in MOVED.items():
                module = old.split()[1].replace(".", "/")
                if not (source / f"{module}.py").exists():
                    text = text.replace(old, new).replace("f.how", "f.kind")
            script.chmod(0o644)
            script.write_text(text, encoding="utf-8")
        for script in copy.glob("17-*/run.sh"):  # it prints FAIL only
            script.chmod(0o755)
            script.write_text(
                script.read_text(encoding="utf-8") + "\ngrep -q keys out2.txt && echo PASS\n", encoding="utf-8"
            )
        adapted = _run_folder(copy, commands, again)
    return verdicts | {
        name: ["PASS (adapted)", problem] if verdict == "PASS" else [verdict, problem]
        for name, (verdict, problem) in adapted.items()
    }


def _run_folder(cases: Path, commands: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The verdicts that `run-all` prints of a folder of cases."""
    command = ["bash", str(cases / "run-all"), str(commands / "instructalign"), *names]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    print("\n".join(lines))
    found = [line.split(maxsplit=2) for line in lines if line[:4] in ("PASS", "FAIL")]
    return {name: [verdict, "".join(problem)] for verdict, name, *problem in found}


def write_table(
    out: Path, before: dict[str, dict[str, list[str]]], after: dict[str, list[str]], shared: Path | None
) -> None:
    """Writes the table of all cases as Markdown, with the verdicts of former versions."""
    rows = [
        (
            case.kind,
            case.name,
            case.source,
            case.right,
            *(each.get(case.name, ["–"])[0] for each in before.values()),
        )
        for case in CASES
    ]
    if shared:
        for name, source, right in _described(shared):
            was = (each.get(name, ["–"])[0] for each in before.values())
            rows.append((SHARED_KINDS[int(name[:2])], name, source, right, *was))
    columns = ["kind", "case", "report", "right", *(f"at {version}" for version in before), "now"]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for row in sorted(rows, key=lambda row: row[:2]):
        now = after.get(row[1], ["–"])[0]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (*row, now)) + " |")
    counts = []
    for version, verdicts in [*before.items(), ("now", after)]:
        for what, names in (
            ("further reports", [case.name for case in CASES]),
            ("the issue's cases", [name for name in verdicts if name[:2].isdecimal()]),
        ):
            found = [verdicts[name][0] for name in names if name in verdicts]
            if found:
                listed = ", ".join(f"{found.count(each)} {each}" for each in _VERDICTS if each in found)
                counts.append(f"| {version} | {what} | {len(found)} | {listed} |")
    wrong = [f"- `{name}`: {problem}" for name, (verdict, problem) in after.items() if "PASS" not in verdict]
    adapted = [name for name, (verdict, _) in after.items() if verdict == "PASS (adapted)"]
    why = [f"- `{name}`: {ADAPTED[int(name[:2])]}" for name in sorted(adapted)]
    parts = [
        "# Files from public reports",
        "Made by `python benchmarks/files/run.py --shared ../shared/cases --out docs/results/files.md`.",
        ABOUT,
        "| version | cases | number | result |\n| --- | --- | --- | --- |\n" + "\n".join(counts),
        *(["Still wrong:", "\n".join(wrong)] if wrong else []),
        *(["Adapted:", "\n".join(why)] if why else []),
        "\n".join(lines),
    ]
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _described(shared: Path) -> list[tuple[str, str, str]]:
    """The name, the source and the right behaviour of each of the issue's cases, from the table beside them."""
    lines = (shared / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [
        [cell.strip() for cell in line.replace("\\|", "¦").split("|")] for line in lines if line.startswith("| ")
    ]
    return [(row[1], row[2], row[3].replace("¦", "|")) for row in cells if row[1][:2].isdecimal()]


def main() -> None:
    """Runs, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; all by default")
    parser.add_argument("--checkout", type=Path, help="another version of the repository; this one by default")
    parser.add_argument("--json", type=Path, help="where the verdicts go")
    parser.add_argument("--shared", type=Path, help="the folder of the issue's cases, to run them as well")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    given = parser.parse_args()
    if given.checkout is not None:
        environment = {**os.environ, "PYTHONPATH": str(given.checkout / "src"), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, *given.names]
        command += ["--json", str(given.json.resolve())] if given.json else []
        command += ["--shared", str(given.shared)] if given.shared else []
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)
    numbered = [name for name in given.names if name[:2].isdecimal()]
    verdicts = {} if numbered and len(numbered) == len(given.names) else run_all(given.names)
    if given.shared:
        import instructalign

        verdicts |= run_shared(given.shared, Path(instructalign.__file__).parents[1], numbered)
    counts = {name: [each for each, _ in verdicts.values()].count(name) for name in _VERDICTS}
    print(", ".join(f"{number} {name}" for name, number in counts.items()))
    if given.json:
        given.json.write_text(json.dumps(verdicts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.out:
        before = json.loads(Path(__file__).with_name("before.json").read_text(encoding="utf-8"))
        write_table(given.out, before, verdicts, given.shared)


if __name__ == "__main__":
    main()
