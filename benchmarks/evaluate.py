"""Zero-shot evaluation: ours, lm-evaluation-harness, and the first InstructAlign code's method, side by side.

All three answer the same NusaX questions with the same model: BLOOM's shape with random weights, and a byte-level
BPE trained on the same data. The harness runs our exported tasks. The first code's method is written here from its
description: every prompt with every label in it, in the data's order, padded, through the whole model, with logits
at every token. The harness and the first method use the best of several batch sizes. `usual` is ours with the
routines that transformers and PyTorch use by default, to show the effect of training/cpu_kernels.py. The methods
take turns, each in a process of its own; what is timed goes from prompts as text to scores (tokenising included;
reading data and loading the model not). On a CPU the rates are per second of CPU time, since it may have other
work to do; on a GPU per second of wall time.

    python benchmarks/evaluate.py --data ../shared/data --items 16 --rounds 2 --out docs/results/evaluate.md

With `--shots` the harness alone is measured, with its own model and with ours (`--model instructalign`), on
questions with four answers of a few words each, after that many examples, the same for all questions:

    python benchmarks/evaluate.py --data ../shared/data --items 16 --shots 5 --out docs/results/lm-eval-5-shot.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from machine import Clock, processor, start_quietly
from shapes import SHAPES, make_model, said_of

LANGUAGES = ["ace", "ban", "bbc", "bjn", "bug", "eng", "ind", "jav", "mad", "min", "sun"]
PROMPTS = ["en-1", "en-2", "en-3"]
BATCHES = [4, 8, 16, 32]
NAMES = {
    "ours": "instructalign",
    "usual": "instructalign, usual routines",
    "lm-eval": "lm-evaluation-harness",
    "first": "the first code's method",
    "lm-eval-ours": "lm-evaluation-harness with --model instructalign",
}
SENTIMENT, CHOICES = ["ours", "usual", "lm-eval", "first"], ["lm-eval-ours", "lm-eval"]
BATCHED = ("lm-eval", "first")  # the methods whose batch size is to be chosen

Answers = dict[str, list[float]]
"""The label log-likelihoods of each question."""


def main() -> None:
    """Runs the comparison, or one method of it."""
    options = read_options()
    if options.method:
        print(json.dumps(METHODS[options.method](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.work = Path(folder)
        make_model(options.shape, options.data, options.work / "model")
        result = compare(options)
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(render(result), encoding="utf-8")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds nusax/")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--items", type=int, default=400, help="per language and prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-tokens", type=int, help="ours; the evaluation's own unless given")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES, help="sizes tried for the others")
    parser.add_argument("--methods", nargs="*", choices=NAMES)
    parser.add_argument("--shots", type=int, default=-1, help="four answers, this many examples, in the harness")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.methods = options.methods or (SENTIMENT if options.shots < 0 else CHOICES)
    options.batch_tokens = options.batch_tokens or (1024 if options.device == "cpu" else 8192)
    return options


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Lets the methods take turns, and gathers rates, memory and how far their answers agree."""
    batches = {method: best_batch(options, method) for method in options.methods if method in BATCHED}
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
    for _ in range(options.rounds):
        for method in options.methods:
            runs[method].append(run(options, method, batches.get(method, {}).get("best", 0), options.items))
    ours = runs[options.methods[0]][0]["answers"]
    return {
        "command": shlex.join(["python", "benchmarks/evaluate.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(options),
        "shape": options.shape,
        "questions": {"languages": len(LANGUAGES), "prompts": len(PROMPTS), "items": options.items},
        "shots": options.shots,
        "batch_sizes": batches,
        "methods": {method: summary(results, ours, options.device) for method, results in runs.items()},
    }


def render(result: dict[str, Any]) -> str:
    """The result as a page."""
    machine, asked = result["machine"], result["questions"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("torch", "transformers", "lm_eval", "instructalign")
    )
    methods = result["methods"]
    unit = "CPU" if machine["device"] == "cpu" else "clock"
    what = (
        f"NusaX sentiment, {asked['languages']} languages × {asked['prompts']} prompts × {asked['items']} items, "
        "three labels"
    )
    if result["shots"] >= 0:
        what = (
            f"Which words begin the translation of a NusaX sentence? {asked['languages']} languages × "
            f"{asked['items']} items, four answers, {result['shots']} examples"
        )
    lines = [
        "# Zero-shot evaluation: speed and memory"
        if result["shots"] < 0
        else f"# lm-evaluation-harness with --model instructalign: four answers, {result['shots']}-shot",
        "",
        f"Made by `{result['command']}` on {result['date']}, {machine['processor']}, {machine['device']}, "
        f"{machine['threads']} thread(s) (load {machine['load_before']:.1f} at the start), {machine['dtype']}, "
        f"Python {machine['python']}, {versions}.",
        "",
        f"{what}, on {said_of(result['shape'])}. "
        "The methods take turns; what is timed goes from prompts as text to scores.",
        "",
        f"| method | questions per {unit} second | each round | by the clock | peak memory (MiB) "
        "| same prediction | largest difference (nats) |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in methods.items():
        rounds = ", ".join(map(str, row["each_round"]))
        lines.append(
            f"| {NAMES[name]} | {row['rate']} | {rounds} | {row['questions_per_second']} "
            f"| {row['peak_memory_mib']} | {row['same_prediction']:.1%} | {row['largest_difference']:.1e} |"
        )
    lines.append("")
    reference, *others = methods
    for name in others:
        ratio = methods[reference]["rate"] / methods[name]["rate"]
        lines.append(f"{NAMES[reference]} answers **{ratio:.1f} times** as many questions as {NAMES[name]}.")
    lines += ["", f"Batch sizes tried on a few items, in questions per {unit} second; the best was taken:", ""]
    for name, tried in result["batch_sizes"].items():
        rates = ", ".join(f"{size}: {rate}" for size, rate in tried["rates"].items())
        lines.append(f"- {NAMES[name]}: {rates}")
    return "\n".join(lines) + "\n"


def rate(result: dict[str, Any], device: str) -> float:
    """Questions per second: of the processor's time, or by the clock where another device works."""
    return float(result["questions"] / result["cpu_seconds" if device == "cpu" else "seconds"])


def summary(results: list[dict[str, Any]], ours: Answers, device: str) -> dict[str, Any]:
    """Rate and memory of one method, and its difference from our answers."""
    rates = [rate(result, device) for result in results]
    said: dict[str, Any] = {
        "rate": round(statistics.median(rates), 1),
        "each_round": [round(each, 1) for each in rates],
        "questions_per_second": round(statistics.median(r["questions"] / r["seconds"] for r in results), 1),
        "peak_memory_mib": max(result["memory"] for result in results) >> 20,
    }
    answers = results[0]["answers"]
    pairs = [(answers[key], ours[key]) for key in ours]
    said["largest_difference"] = max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))
    same = [one.index(max(one)) == two.index(max(two)) for one, two in pairs]
    said["same_prediction"] = sum(same) / len(same)
    return said


def best_batch(options: argparse.Namespace, method: str) -> dict[str, Any]:
    """The batch size with which a method is fastest, on a few items."""
    few = max(2, options.items // 5)
    rates = {}
    for size in options.batches:
        result = run(options, method, size, few)
        rates[size] = round(rate(result, options.device), 1)
    return {"best": max(rates, key=lambda size: rates[size]), "rates": rates}


def run(options: argparse.Namespace, method: str, batch: int, items: int) -> dict[str, Any]:
    """One method in a process of its own."""
    command = [sys.executable, __file__, "--method", method, "--batch", str(batch), "--items", str(items)]
    for name in ("data", "shape", "threads", "device", "dtype", "batch_tokens", "work", "shots"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures were measured on and with."""
    import torch

    return {
        "processor": processor(),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "dtype": options.dtype,
        "load_before": os.getloadavg()[0],
        **{name: version(name) for name in ("torch", "transformers", "lm_eval", "instructalign")},
        "python": platform.python_version(),
    }


# -- the methods -----------------------------------------------------------------------------------------


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """The evaluation stage of this package."""
    from instructalign.config import ModelConfig
    from instructalign.evaluation.likelihood import plan_batches, score_batch
    from instructalign.evaluation.prompting import make_queries
    from instructalign.training.models import load_model

    start_quietly(options.threads)
    task, questions = read_questions(options)
    loaded = load_model(ModelConfig(base=str(options.work / "model"), dtype=options.dtype))
    loaded.model.to(options.device)
    clock = Clock()
    queries = make_queries(
        loaded.codec, task, [(prompt, item, ()) for _, prompt, item in questions], loaded.codec.context
    )
    scores: list[Any] = [None] * len(queries)
    for batch in plan_batches(queries, options.batch_tokens):
        for index, score in zip(batch, score_batch(loaded, [queries[i] for i in batch]), strict=True):
            scores[index] = score
    spent = clock.read()
    answers = {name(*question): list(score.labels) for question, score in zip(questions, scores, strict=True)}
    return measured(options, spent, answers)


def usual(options: argparse.Namespace) -> dict[str, Any]:
    """Ours, without the faster routines."""
    from instructalign.training import cpu_kernels

    # `patch`, unlike an assignment, fails if there is no such function any more.
    with patch.object(cpu_kernels, "_inference_routines", lambda model: iter(())):
        return ours(options)


def harness(options: argparse.Namespace) -> dict[str, Any]:
    """lm-evaluation-harness, with its model or ours; its time is that of its scoring of requests."""
    start_quietly(options.threads)
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from instructalign.evaluation import load_task
    from instructalign.evaluation.lm_eval_export import export_lm_eval

    tasks = options.work / f"tasks-{options.items}"
    if options.shots < 0:
        task = load_task("nusax_senti")
        export_lm_eval(task, tasks, options.data, languages=LANGUAGES, prompts=PROMPTS, items=options.items)
        names = ["nusax_senti"]
    else:
        names = write_choices(options, tasks)
    settings = {"device": options.device, "dtype": options.dtype}
    if options.method == "lm-eval-ours":
        from instructalign.evaluation.lm_eval_model import InstructAlignLM

        settings["batch_tokens"] = options.batch_tokens
        model: Any = InstructAlignLM(str(options.work / "model"), **settings)
    else:
        model = HFLM(str(options.work / "model"), batch_size=options.batch, **settings)
    spent = []
    score = model.loglikelihood

    def timed(*args: Any, **keywords: Any) -> Any:
        clock = Clock()
        result = score(*args, **keywords)
        spent.append(clock.read())
        return result

    model.loglikelihood = timed
    result = lm_eval.simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    answers = {
        f"{task.removeprefix('nusax_senti_').replace('_', '/')}/{sample['doc']['id']}": [
            float(answer[0]) for answer in sample["filtered_resps"]
        ]
        for task, samples in result["samples"].items()
        for sample in samples
    }
    return measured(options, spent[0], answers)


def write_choices(options: argparse.Namespace, folder: Path) -> list[str]:
    """Writes tasks for the harness, one a language: which words begin a sentence's translation, of four."""
    from instructalign.evaluation.task_items import read_items
    from instructalign.evaluation.tasks import load_task

    task = load_task("nusax_senti")
    english = {item.id: item.fields["text"] for item in read_items(task, "eng", options.data)}
    names = []
    folder.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        items = read_items(task, language, options.data, options.items + options.shots)
        rows = []
        for number, item in enumerate(items):
            others = [items[(number + step) % len(items)].id for step in (0, 1, 2, 3)]
            choices = [" ".join(english[id].split()[:5]) for id in others]
            gold = number % 4
            choices[0], choices[gold] = choices[gold], choices[0]
            rows.append({"id": item.id, "text": item.fields["text"], "choices": choices, "answer": gold})
        parts = {"test": rows[options.shots :], "train": rows[: options.shots] or rows[:1]}
        files = {part: str(folder / f"{language}.{part}.jsonl") for part in parts}
        for part, some in parts.items():
            Path(files[part]).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        names.append(f"choices_{language}")
        definition = {
            "task": names[-1],
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": options.shots,
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}\nWhich words begin the translation of this into English?\nAnswer:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        (folder / f"{names[-1]}.yaml").write_text(json.dumps(definition), encoding="utf-8")
    return names


def first(options: argparse.Namespace) -> dict[str, Any]:
    """The first code's method: each label in a pass of its own, in the data's order, logits everywhere."""
    start_quietly(options.threads)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task, questions = read_questions(options)
    tokenizer = AutoTokenizer.from_pretrained(options.work / "model")
    model = AutoModelForCausalLM.from_pretrained(options.work / "model", dtype=getattr(torch, options.dtype))
    model.to(options.device).eval()
    answers: Answers = {name(*question): [] for question in questions}
    clock = Clock()
    for begin in range(0, len(questions), options.batch):
        batch = questions[begin : begin + options.batch]
        prompts = [task.prompts[prompt].prompt.format_map(item.fields) for _, prompt, item in batch]
        lengths = torch.tensor([len(tokenizer.encode(prompt)) for prompt in prompts])
        for choice in range(len(task.labels)):
            words = [list(task.words(prompt, item).values())[choice] for _, prompt, item in batch]
            filled = [f"{prompt} {word}" for prompt, word in zip(prompts, words, strict=True)]
            inputs = tokenizer(filled, padding=True, padding_side="right", return_tensors="pt")
            with torch.inference_mode():
                logits = model(**inputs.to(options.device)).logits[:, :-1].float()
            targets = inputs.input_ids[:, 1:]
            chances = logits.log_softmax(-1).gather(2, targets[:, :, None])[:, :, 0].cpu()
            places = torch.arange(chances.shape[1])
            label = (places >= lengths[:, None] - 1) & inputs.attention_mask[:, 1:].bool().cpu()
            for question, value in zip(batch, (chances * label).sum(1).tolist(), strict=True):
                answers[name(*question)].append(value)
    return measured(options, clock.read(), answers)


METHODS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ours": ours,
    "usual": usual,
    "lm-eval": harness,
    "first": first,
    "lm-eval-ours": harness,
}


def read_questions(options: argparse.Namespace) -> tuple[Any, list[tuple[str, str, Any]]]:
    """The task; and language, prompt and item of every question."""
    from instructalign.evaluation.task_items import read_items
    from instructalign.evaluation.tasks import load_task

    task = load_task("nusax_senti")
    return task, [
        (language, prompt, item)
        for language in LANGUAGES
        for prompt in PROMPTS
        for item in read_items(task, language, options.data, options.items)
    ]


def name(language: str, prompt: str, item: Any) -> str:
    """What a question is called in the answers."""
    return f"{language}/{prompt}/{item.id}"


def measured(options: argparse.Namespace, spent: tuple[float, float], answers: Answers) -> dict[str, Any]:
    """What a process hands back."""
    import torch

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.device == "cuda":
        used = torch.cuda.max_memory_allocated()
    return {
        "seconds": spent[0],
        "cpu_seconds": spent[1],
        "questions": len(answers),
        "memory": used,
        "answers": answers,
    }


if __name__ == "__main__":
    main()
