"""Translation in the evaluation beside plain `generate` of transformers: sentences a second, memory, same texts.

Both translate the same FLORES-200 sentences greedily with the same prompts and the same model: the pretrained chat
model of benchmarks/real_base.py unless another is named. `plain` is transformers' `generate` in the data's order,
padded, up to the task's maximum or the text's end, in the best of several batch sizes. `ours` is the evaluation's:
sentences of about the same length together, a row stopped at the end of its line, and a limit that follows the
source's length; `no-limit` and `no-stop` are ours without the last and without the last two. The methods take
turns, each in a process of its own; what is timed goes from sentences to translations. Rates are per second of
processor time on a CPU, since it may have other work to do, and of wall time on a GPU.

    python benchmarks/translate.py --data ../shared/data --items 16 --rounds 1 --out docs/results/translate.md
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import Clock, describe, put, start_quietly
from real_base import BASE

METHODS = ("ours", "no-limit", "no-stop", "plain")


def main() -> None:
    """Runs the comparison, or one method of it."""
    options = read_options()
    if options.method:
        print(json.dumps(translate(options)))
        return
    about = describe("torch", "transformers")
    few = max(2, options.items // 2)
    tried = {size: rate(run(options, "plain", size, few), options.device) for size in options.batches}
    best = max(tried, key=lambda size: tried[size])
    results: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for _ in range(options.rounds):
        for method in METHODS:
            results[method].append(run(options, method, best, options.items))
    put(render(options, about, results, tried, best), options.out)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flores200/")
    parser.add_argument("--model", type=Path, default=BASE)
    parser.add_argument("--languages", nargs="*", default=["ind", "jav"], help="translated from and into English")
    parser.add_argument("--items", type=int, default=16, help="sentences of each direction")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batches", type=int, nargs="*", default=[4, 8, 16, 32], help="sizes tried for plain")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="ours; the evaluation's own unless given")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options: argparse.Namespace, method: str, batch: int, items: int) -> dict[str, Any]:
    """One method in a process of its own."""
    command = [sys.executable, __file__, "--method", method, "--batch", str(batch), "--items", str(items)]
    for name in ("data", "model", "threads", "device", "dtype", "batch_tokens"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(
        [*command, "--languages", *options.languages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def translate(options: argparse.Namespace) -> dict[str, Any]:
    """What one method takes for all directions, and what it writes."""
    from instructalign.config import ModelConfig
    from instructalign.training.models import load_model

    start_quietly(options.threads)
    loaded = load_model(ModelConfig(base=str(options.model), dtype=options.dtype))
    loaded.model.to(options.device)
    loaded.model.eval()
    write = plain if options.method == "plain" else ours
    texts, spent = [], [0.0, 0.0]
    for direction in directions(options):
        clock = Clock()
        texts += write(loaded, direction, options)
        spent = [total + more for total, more in zip(spent, clock.read(), strict=True)]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.device == "cuda":
        import torch

        used = torch.cuda.max_memory_allocated()
    return {"seconds": spent[0], "cpu_seconds": spent[1], "texts": texts, "memory": used}


def directions(options: argparse.Namespace) -> list[Any]:
    """The directions of the shipped task, under its first prompt."""
    from instructalign.config_file import build_config
    from instructalign.evaluation.task_selection import plan_directions
    from instructalign.evaluation.tasks import load_task

    config = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": options.languages},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
            "evaluation": {"data": str(options.data.resolve()), "items": options.items, "prompts": ["en-1"]},
        }
    )
    return plan_directions(config, load_task("flores_translation"))


def ours(loaded: Any, direction: Any, options: argparse.Namespace) -> list[list[Any]]:
    """The evaluation's way."""
    from instructalign.evaluation.translation import translation_limits
    from instructalign.training.generation import LINE_END, decode_until, generate_batch, plan_generation

    prompts = [loaded.codec.pair(direction.format_prompt("en-1", text), "")[0] for text in direction.texts]
    limits = [direction.task.tokens] * len(prompts)
    if options.method == "ours":
        limits = translation_limits(loaded.tokenizer, direction)
    lines: list[list[Any]] = [[] for _ in prompts]
    for batch in plan_generation(loaded, prompts, limits, options.batch_tokens):
        chosen, most = [prompts[index] for index in batch], [limits[index] for index in batch]
        written = generate_batch(loaded, chosen, most, stops=() if options.method == "no-stop" else LINE_END)
        for index, each in zip(batch, written, strict=True):
            lines[index] = [*decode_until(loaded.tokenizer, each)]
    return lines


def plain(loaded: Any, direction: Any, options: argparse.Namespace) -> list[list[Any]]:
    """`generate` of transformers on batches in the data's order; of what it writes, the first line."""
    import torch

    tokenizer, model = loaded.tokenizer, loaded.model
    prompts = [loaded.codec.pair(direction.format_prompt("en-1", text), "")[0] for text in direction.texts]
    lines = []
    for start in range(0, len(prompts), options.batch):
        batch = [{"input_ids": ids} for ids in prompts[start : start + options.batch]]
        inputs = tokenizer.pad(batch, padding_side="left", return_tensors="pt").to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                max_new_tokens=direction.task.tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        for text in tokenizer.batch_decode(new, skip_special_tokens=True):
            lines.append([text.lstrip().partition("\n")[0].strip(), False])
    return lines


def rate(result: dict[str, Any], device: str) -> float:
    """Sentences per second: of the processor's time, or by the clock where another device works."""
    return float(len(result["texts"]) / result["cpu_seconds" if device == "cpu" else "seconds"])


def render(
    options: argparse.Namespace,
    about: str,
    results: dict[str, list[dict[str, Any]]],
    tried: dict[int, float],
    best: int,
) -> list[str]:
    """The result as paragraphs."""
    unit = "processor" if options.device == "cpu" else "clock"
    expected = results["plain"][0]["texts"]
    table = [
        f"| method | sentences per {unit} second | each round | peak memory (MiB) | same text | cut by a limit |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    medians = {}
    for method, some in results.items():
        rates = [rate(result, options.device) for result in some]
        medians[method] = statistics.median(rates)
        texts = some[0]["texts"]
        # A text that a limit cut short must be the beginning of the plain one; any other the same.
        same = [
            mine == theirs or (unfinished and theirs.startswith(mine))
            for (mine, unfinished), (theirs, _) in zip(texts, expected, strict=True)
        ]
        cut = sum(mine != theirs for (mine, _), (theirs, _) in zip(texts, expected, strict=True))
        memory = max(result["memory"] for result in some) >> 20
        table.append(
            f"| {method} | {medians[method]:.2f} | {', '.join(f'{each:.2f}' for each in rates)} | {memory:,} "
            f"| {sum(same)} of {len(same)} | {cut} |"
        )
    sizes = ", ".join(f"{size}: {each:.2f}" for size, each in tried.items())
    command = shlex.join(["python", "benchmarks/translate.py", *sys.argv[1:]])
    times = medians["ours"] / medians["plain"]
    return [
        "# Translation in the evaluation: speed and memory",
        f"Made by `{command}` on {about}, {options.device}, {options.dtype}, {options.threads} thread(s), with "
        f"{options.model.name}.",
        f"FLORES-200 devtest, English from and into {', '.join(options.languages)}, {options.items} sentences "
        "each, at most 256 tokens. The script's own text says what each method is. A text is the same if it "
        "is that of plain `generate` up to the end of its line, or, where a limit cut it, the beginning of that.",
        "\n".join(table),
        f"ours translates **{times:.1f} times** as many sentences as plain `generate` in its best batch ({best}; "
        f"tried on half of them, sentences per {unit} second: {sizes}).",
    ]


if __name__ == "__main__":
    main()
