"""Where the time of a training step goes: the kernels and operations that take most, by torch.profiler.

python benchmarks/gpu/profile_step.py --data DATA --shape 560m --device cuda --out FILE.txt
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import start_quietly
from shapes import SHAPES, make_model
from train import configuration

FIRST, LAST = 4, 7
"""The steps that are profiled: after what happens once, before the last one is written."""


def main() -> None:
    """Trains for ten steps and writes a table of the operations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.steps, options.length, options.lora = 10, 128, False
    start_quietly(2)
    with tempfile.TemporaryDirectory() as name:
        options.work = Path(name)
        make_model(options.shape, options.data, options.work / "model")
        table = profiled(options)
    print(table)
    if options.out:
        options.out.write_text(table + "\n", encoding="utf-8")


def profiled(options: argparse.Namespace) -> str:
    """The operations of a few steps, those first that take most time on the device."""
    from torch.profiler import ProfilerActivity, profile

    from instructalign.training.train import train

    on_gpu = options.device == "cuda"
    profiler = profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU][not on_gpu :])

    reached: set[int] = set()

    def note(what: str, done: int, total: int, remark: str = "") -> None:
        if what != "training" or done in reached:  # a step can be told of twice
            return
        reached.add(done)
        if done == FIRST:
            profiler.start()
        elif done == LAST:
            profiler.stop()

    train(configuration(options, packing=True), options.work / "run", progress=note)
    kind = "cuda" if on_gpu else "cpu"
    return str(profiler.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=40))


if __name__ == "__main__":
    main()
