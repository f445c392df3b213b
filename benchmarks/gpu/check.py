"""Is training and scoring right on this device? Four checks, each with what was found and what is allowed.

    python benchmarks/gpu/check.py --data DATA --device cuda --out FILE.json

- `losses`: those of 20 steps equal the processor's, in float32 and in bfloat16.
- `resume`: a run killed at a step (signal 9) and resumed ends with the weights of a run that was left alone, with
  PyTorch's deterministic algorithms; where they differ, the losses must agree.
- `scores`: label log-likelihoods equal those of plain transformers (`benchmarks/evaluate.py`, method `first`).
- `synchronisation`: within a step nothing makes the processor wait for the GPU (PyTorch's sync debug mode).

With `--device cpu` the same code runs: the processor with one thread is compared to itself with two, and the last
check does not apply.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHMARKS))

from machine import start_quietly  # noqa: E402
from shapes import make_model  # noqa: E402

STEPS = 20
KILLED_AT = 12
ALLOWED = {"float32": 1e-4, "bfloat16": 0.05}
"""The largest difference of a loss, in nats: of rounding, and of sums in another order."""
ALLOWED_SCORES = 1e-3
"""The largest difference of a label's log-likelihood, in nats."""

Finding = dict[str, Any]


def main() -> None:
    """Runs the checks; exits with 1 if one fails."""
    options = read_options()
    if options.train:
        train(options)
        return
    with tempfile.TemporaryDirectory() as name:
        options.work = Path(name)
        make_model(options.shape, options.data, options.work / "model")
        findings = []
        for check in (losses, resume, scores, synchronisation):
            for each in check(options):
                verdict = {True: "ok", False: "FAILED", None: "n/a"}[each["right"]]
                print(f"{verdict:6} {each['check']}: {each['found']} (allowed: {each['allowed']})", flush=True)
                findings.append(each)
    if options.out:
        options.out.write_text(json.dumps(findings, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(each["right"] is False for each in findings))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flores200/ and nusax/")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--shape", default="small")
    parser.add_argument("--out", type=Path)
    # The folder of a run, in a process of its own.
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def losses(options: argparse.Namespace) -> list[Finding]:
    """The losses of a run on the device beside those of the processor."""
    findings = []
    for precision in ("float32", "bfloat16"):
        ours = loss_of_steps(run(options, f"device-{precision}", precision=precision))
        other = {"CUDA_VISIBLE_DEVICES": ""}
        reference = loss_of_steps(run(options, f"processor-{precision}", other, precision=precision, threads=1))
        difference = max(abs(a - b) for a, b in zip(ours, reference, strict=True))
        findings.append(
            finding(f"losses of {STEPS} steps, {precision}", difference, ALLOWED[precision], "nats at most")
        )
    return findings


def resume(options: argparse.Namespace) -> list[Finding]:
    """A killed and resumed run beside one that was left alone."""
    import torch
    from safetensors.torch import load_file

    alone = run(options, "alone")
    killed = run(options, "killed", kill=True, may_fail=-signal.SIGKILL)
    steps_before = len(loss_of_steps(killed))
    run(options, "killed")
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (alone, killed))
    differing = [name for name in one if not torch.equal(one[name], two[name])]
    both = zip(loss_of_steps(alone), loss_of_steps(killed), strict=True)
    difference = max(abs(a - b) for a, b in both)
    found = finding(f"resumed after signal 9 at step {steps_before}: losses", difference, 1e-3, "nats at most")
    weights = {
        "check": "resumed: weights",
        "found": f"{len(one) - len(differing)} of {len(one)} tensors equal bit for bit",
        "allowed": "all, or the losses above agree",
        "right": not differing or bool(found["right"]),
    }
    return [found, weights]


def scores(options: argparse.Namespace) -> list[Finding]:
    """Label log-likelihoods beside plain transformers'."""
    command = [sys.executable, str(BENCHMARKS / "evaluate.py"), "--data", str(options.data), "--device"]
    command += [options.device, "--shape", options.shape, "--items", "4", "--rounds", "1", "--batches", "8"]
    command += ["--methods", "ours", "first"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"evaluate.py failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout)["methods"]["first"]
    check = "label log-likelihoods, ours and plain transformers'"
    return [finding(check, result["largest_difference"], ALLOWED_SCORES, "nats at most")]


def synchronisation(options: argparse.Namespace) -> list[Finding]:
    """Whether anything in a step waits for the GPU."""
    check = "operations within a step that wait for the GPU"
    if options.device == "cpu":
        return [{"check": check, "found": "does not apply to a processor", "allowed": 0, "right": None}]
    places = json.loads((run(options, "watched", watch=True) / "waits.json").read_text(encoding="utf-8"))
    said = ", ".join(f"{count} x {place}" for place, count in places.items()) or "none"
    return [{"check": check, "found": said, "allowed": 0, "right": not places}]


def finding(check: str, found: float, allowed: float, unit: str) -> Finding:
    """A number beside the largest that is allowed."""
    return {"check": check, "found": f"{found:.2e}", "allowed": f"{allowed:g} {unit}", "right": found <= allowed}


# -- one run, in a process of its own ------------------------------------------------------------------------


def run(
    options: argparse.Namespace,
    name: str,
    environment: dict[str, str] | None = None,
    *,
    precision: str = "float32",
    threads: int = 2,
    kill: bool = False,
    watch: bool = False,
    may_fail: int = 0,
) -> Path:
    """Trains in a process; returns the run's folder."""
    folder: Path = options.work / name
    command = [sys.executable, __file__, "--data", str(options.data), "--device", options.device]
    command += ["--shape", options.shape, "--work", str(options.work), "--train", str(folder)]
    command += ["--precision", precision, "--threads", str(threads)]
    command += ["--kill"] * kill + ["--watch"] * watch
    settings = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **(environment or {})}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode not in (0, may_fail) or (may_fail and not done.returncode):
        sys.exit(f"run {name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return folder


def train(options: argparse.Namespace) -> None:
    """Trains, and kills itself or watches for waits if it is to."""
    import torch

    from instructalign.config_file import build_config
    from instructalign.training.train import train as train_run

    start_quietly(options.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    config = build_config(
        {
            "model": {"base": str(options.work / "model")},
            "languages": {"known": ["eng", "ind"], "new": ["sun", "jav", "ban", "min"]},
            "corpora": [
                {"format": "flores", "path": str(options.data.resolve() / "flores200"), "splits": ["dev"]}
            ],
            "instructions": {"heldout": 0},
            "training": {
                "steps": STEPS,
                "batch_size": 16,
                "strategy": "none",
                "precision": options.precision,
                "report_to": [],
                "checkpoint_every": 10**6 if options.watch else 5,
                "log_every": 10**6 if options.watch else 1,
            },
        }
    )
    places: Counter[str] = Counter()

    def note(what: str, done: int, total: int, remark: str = "") -> None:
        if what != "training":
            return
        if options.kill and done == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.watch:  # what the first steps allocate and the last one writes is not of interest
            torch.cuda.set_sync_debug_mode("warn" if 3 <= done < STEPS - 1 else "default")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_run(config, options.train, progress=note)
    if options.watch:
        for each in caught:
            if "synchronizing" in str(each.message):
                places[f"{'/'.join(Path(each.filename).parts[-3:])}:{each.lineno}"] += 1
        (options.train / "waits.json").write_text(json.dumps(places), encoding="utf-8")


def loss_of_steps(folder: Path) -> list[float]:
    """The loss of each step, in order, as log.jsonl has it."""
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    by_step = {line["step"]: line["loss"] for line in lines if "loss" in line}
    return [by_step[step] for step in sorted(by_step)]


if __name__ == "__main__":
    main()
