"""Training: tokens per second and peak memory, beside transformers' Trainer and TRL, and what makes ours fast.

    python benchmarks/train.py --data ../shared/data --out docs/results/train.md
    python benchmarks/train.py --data ../shared/data --shape 560m --device cuda --precision bfloat16 --out FILE

The same model (a known shape with random weights), the same token ids in the same order (translation instructions
of FLORES-200, at most 128 tokens unless `--length` says otherwise), full fine-tuning (or `--lora`) by AdamW, each
method in a process of its own, the methods taking turns. *Real tokens* are those of prompts and answers; padding
does not count. The first step is not timed. Memory is the peak of the process, PyTorch and all, or what was
allocated on the GPU.

- `ours`: `instructalign train` as it is, with the loss on answers; `packed`: with examples packed into rows;
  `all`: with the loss on everything, as the first code has it; `bfloat16`: under autocast; `compiled`: layers
  compiled.
- `one-pass`, `all-logits`, `usual-products`: ours without one of what makes it fast: all rows of a step in one
  pass, padded to the longest; logits at every token; products and activations as PyTorch and transformers do them
  by themselves. `none-of-it`: without any.
- `trainer`: `transformers.Trainer` with a padding collator and the loss on everything, as the first code did it.
- `trl`: TRL's SFTTrainer with the loss on completions; `trl-packing`: the same with packing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from machine import describe, put, start_quietly
from shapes import SHAPES, make_model, said_of

OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "packed": {"packing": True},
    "all": {"loss_on": "all"},
    "bfloat16": {"precision": "bfloat16"},
    "compiled": {"compile": True},
}
WITHOUT = ["one-pass", "all-logits", "usual-products", "none-of-it"]
PEERS = ["trainer", "trl", "trl-packing"]
USUAL = [*(name for name in OURS if name != "compiled"), *WITHOUT, *PEERS]
BATCH = 32
LORA = {"r": 16, "alpha": 32.0}  # of every linear layer but the head
MEMORY = {"cpu": "the process's peak, PyTorch and all", "cuda": "what was allocated on the GPU at most"}
NEW = ["sun", "jav", "ban", "min", "bug", "ace", "bjn"]


def main() -> None:
    """Runs the comparison, or one method of it."""
    options = read_options()
    if options.method:
        start_quietly(options.threads)
        run = PEER_RUNS.get(options.method, ours)
        print(json.dumps(run(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.work = Path(folder)
        make_model(options.shape, options.data, options.work / "model")
        write_examples(options)
        runs: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
        for _ in range(options.rounds):
            for method in options.methods:
                runs[method].append(alone(options, method))
                print(method, json.dumps(runs[method][-1]), file=sys.stderr, flush=True)
        peak = peak_flops(options)
    put(render(options, runs, peak), options.out)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flores200/ and text/")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of all methods")
    parser.add_argument("--length", type=int, default=128, help="tokens of an example or a packed row, at most")
    parser.add_argument("--lora", action="store_true", help="adapters of rank 16 instead of full fine-tuning")
    parser.add_argument("--methods", nargs="+", choices=[*OURS, *WITHOUT, *PEERS], default=USUAL)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def alone(options: argparse.Namespace, method: str) -> dict[str, Any]:
    """One method in a process of its own."""
    command = [sys.executable, __file__, "--method", method]
    for name in ("data", "shape", "steps", "threads", "device", "precision", "length", "work"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--lora"] if options.lora else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{method} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- the examples, alike for all ---------------------------------------------------------------------------


def configuration(options: argparse.Namespace, **training: Any) -> Any:
    """The run whose examples all methods train on."""
    from instructalign.config_file import build_config

    return build_config(
        {
            "model": {"base": str(options.work / "model"), "adapter": LORA if options.lora else None},
            "languages": {"known": ["eng", "ind"], "new": NEW},
            "corpora": [
                {"format": "flores", "path": str(options.data.resolve() / "flores200"), "splits": ["dev"]}
            ],
            "instructions": {"objectives": {"mt": 1}, "heldout": 0},
            "training": {
                "steps": options.steps,
                "batch_size": BATCH,
                "max_length": options.length,
                "strategy": "none",
                "precision": options.precision,
                "report_to": [],
                "checkpoint_every": 10**6,
                "log_every": 1,
                **training,
            },
        }
    )


def write_examples(options: argparse.Namespace) -> None:
    """The examples of all steps as token ids, truncated as ours are, for the peers to read."""
    from instructalign.mixture.training_data import prepare_data
    from instructalign.training.batching import ExampleEncoder
    from instructalign.training.models import load_codec

    config = configuration(options)
    stream, encoder = prepare_data(config).mixture, ExampleEncoder(load_codec(config.model), options.length)
    with (options.work / "examples.jsonl").open("w", encoding="utf-8") as file:
        for index in range(options.steps * BATCH):
            encoded = encoder(stream[index])
            file.write(json.dumps({"prompt": encoded.prompt, "answer": encoded.answer}) + "\n")


def examples(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    """What `write_examples` wrote."""
    lines = (options.work / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# -- ours ----------------------------------------------------------------------------------------------------


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """`instructalign.training`, as the command runs it, perhaps without something."""
    from instructalign.training.train import train

    extra = dict(OURS.get(options.method, {}))
    if options.method in ("one-pass", "none-of-it"):
        pass_all_at_once()
    if options.method in ("all-logits", "none-of-it"):
        compute_all_logits()
    if options.method in ("usual-products", "none-of-it"):
        multiply_as_usual()
    ended: dict[int, float] = {}

    def note(what: str, done: int, total: int, remark: str = "") -> None:
        if what == "training" and done:
            ended.setdefault(done, time.perf_counter())

    out = Path(tempfile.mkdtemp(dir=options.work)) / "run"
    train(configuration(options, **extra), out, progress=note)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    real = sum(len(each["prompt"]) + len(each["answer"]) for each in examples(options)[BATCH:])
    return measured(
        options,
        seconds=ended[options.steps] - ended[1],
        real=real,
        padding=record["padding"],
        losses=[line["loss"] for line in log if "loss" in line],
    )


def pass_all_at_once() -> None:
    """All rows of a step in one pass, padded to the longest."""
    from instructalign.training import train
    from instructalign.training.batching import MicroBatchLimits

    train.micro_batch_limits = lambda *_: MicroBatchLimits(overhead=1 << 40)


def compute_all_logits() -> None:
    """The usual way to a loss: logits at every token, and then those of the answers."""
    from instructalign.training import loss

    def usual(self: Any, model: Any, batch: Any, shares: Any) -> tuple[Any, Any]:
        logits = model(**batch["inputs"], use_cache=False).logits.flatten(0, -2)
        losses = loss.cross_entropy(logits.index_select(0, batch["positions"]), batch)
        return (losses * shares).sum(), losses.detach()

    patch.object(loss.ChunkedLoss, "__call__", usual).start()


def multiply_as_usual() -> None:
    """Products and activations as PyTorch and transformers compute them by themselves."""
    from instructalign.training import cpu_kernels

    # `patch`, unlike an assignment, fails if there is no such name any more.
    patch.object(cpu_kernels, "is_amd", lambda: False).start()
    patch.object(cpu_kernels, "TANH_GELU", ()).start()


# -- the peers -----------------------------------------------------------------------------------------------


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of all peers."""
    return {
        "output_dir": str(options.work / "peer"),
        "max_steps": options.steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "linear",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": options.device == "cpu",
        "gradient_checkpointing": False,
        "bf16": options.precision == "bfloat16",
    }


def trainer(options: argparse.Namespace) -> dict[str, Any]:
    """transformers' Trainer as the first code used it: padding, and the loss on every token."""
    from torch.utils.data import SequentialSampler
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    model, tokenizer = load(options)
    rows = [{"input_ids": each["prompt"] + each["answer"]} for each in examples(options)]
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    settings = TrainingArguments(**arguments(options))
    return timed(options, InOrder(model, settings, train_dataset=rows, data_collator=collator), options.steps)


def trl(options: argparse.Namespace) -> dict[str, Any]:
    """TRL's SFTTrainer; packed rows are fewer, and so are the steps through the same examples."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    packing = options.method == "trl-packing"
    model, tokenizer = load(options)
    rows = [
        {
            "input_ids": each["prompt"] + each["answer"],
            "completion_mask": [0] * len(each["prompt"]) + [1] * len(each["answer"]),
        }
        for each in examples(options)
    ]
    settings = arguments(options)
    batch = BATCH
    if packing:  # a few steps of short examples fill less than two batches of rows
        batch = min(BATCH, max(1, sum(len(row["input_ids"]) for row in rows) // options.length // 2))
        settings.update(
            max_steps=-1, num_train_epochs=1, dataloader_drop_last=True, per_device_train_batch_size=batch
        )
    sft = SFTConfig(**settings, max_length=options.length, packing=packing, completion_only_loss=True)
    run = InOrder(model, args=sft, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    return timed(options, run, len(run.train_dataset) // batch if packing else options.steps)


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its tokenizer, as a peer loads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = options.work / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    if options.lora:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            r=LORA["r"], lora_alpha=LORA["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, lora)
    return model, AutoTokenizer.from_pretrained(folder)


def timed(options: argparse.Namespace, run: Any, steps: int) -> dict[str, Any]:
    """Trains with a peer; what goes through the model is counted as it goes."""
    from transformers import TrainerCallback

    class Ends(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            wait(options)
            ends.append(time.perf_counter())

    ends: list[float] = []
    passed: list[tuple[int, int]] = []
    collate, padding = run.data_collator, run.processing_class.pad_token_id if run.processing_class else 3

    def counting(batch: Any) -> Any:
        made = collate(batch)
        tokens = made["input_ids"]
        passed.append((int((tokens != padding).sum()), tokens.numel()))
        return made

    run.data_collator = counting
    run.add_callback(Ends())
    run.train()
    real, through = map(sum, zip(*passed[:steps], strict=True))
    return measured(
        options,
        seconds=ends[-1] - ends[0],
        real=sum(each for each, _ in passed[1:steps]),
        padding=1 - real / through,
        losses=[line["loss"] for line in run.state.log_history if "loss" in line],
    )


PEER_RUNS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "trainer": trainer,
    "trl": trl,
    "trl-packing": trl,
}


# -- figures -------------------------------------------------------------------------------------------------


def wait(options: argparse.Namespace) -> None:
    """Until the GPU has done what it was given."""
    if options.device == "cuda":
        import torch

        torch.cuda.synchronize()


def measured(
    options: argparse.Namespace, *, seconds: float, real: int, padding: float, losses: list[float]
) -> dict[str, Any]:
    """A method's figures."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.device == "cuda":
        import torch

        memory = torch.cuda.max_memory_allocated() / (1 << 20)
    return {"rate": real / seconds, "memory": memory, "padding": padding, "losses": [losses[0], losses[-1]]}


def peak_flops(options: argparse.Namespace) -> dict[str, float]:
    """What a product of two large matrices reaches here, by precision, in FLOP/s: what there is to be used."""
    import torch

    torch.set_num_threads(options.threads)
    size = 8192 if options.device == "cuda" else 2048
    found = {}
    for name in ("float32", "bfloat16"):
        matrix = torch.randn(size, size, device=options.device, dtype=getattr(torch, name))
        routines = [torch.mm]
        if options.device == "cpu":
            routines.append(lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
        seconds = []
        for routine in routines:
            for _ in range(6):
                wait(options)
                began = time.perf_counter()
                routine(matrix, matrix)
                wait(options)
                seconds.append(time.perf_counter() - began)
        found[name] = 2 * size**3 / min(seconds)
    return found


def flops_of_token(options: argparse.Namespace) -> int:
    """Six for each weight, forward and backward (Chowdhery et al. 2022, appendix B; attention is left out).

    With LoRA four: frozen weights have no gradients of their own.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = dict(SHAPES[options.shape])
    config = AutoConfig.for_model(shape.pop("kind"), **shape)
    import torch

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    each = 4 if options.lora else 6
    return each * sum(weight.numel() for weight in model.parameters())  # input and output embeddings are one


def render(
    options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], peak: dict[str, float]
) -> list[str]:
    """The result as paragraphs of Markdown."""
    rates = {method: median(each["rate"] for each in results) for method, results in runs.items()}
    memory = {method: max(each["memory"] for each in results) for method, results in runs.items()}
    table = [
        "| method | real tokens/s (median) | each round | padding | peak memory (MiB) | MFU "
        "| loss, first and last step |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    cost = flops_of_token(options)
    for method, results in runs.items():
        rounds = ", ".join(f"{each['rate']:,.0f}" for each in results)
        precision = "bfloat16" if method == "bfloat16" else options.precision
        first, last = results[0]["losses"]
        table.append(
            f"| {method} | {rates[method]:,.0f} | {rounds} | {results[0]['padding']:.1%} | {memory[method]:,.0f} "
            f"| {rates[method] * cost / peak[precision]:.0%} | {first:.3f}, {last:.3f} |"
        )
    said = [
        f"- {one} trains **{rates[one] / rates[other]:.2f} times** as many real tokens a second as {other}, with "
        f"{memory[one] / memory[other]:.2f} times its memory."
        for other in PEERS
        for one in OURS
        if one in runs and other in runs
    ]
    said += [
        f"- {one} runs at {rates[one] / rates['ours']:.2f} times the rate of ours, with "
        f"{memory[one] / memory['ours']:.2f} times its memory."
        for one in WITHOUT
        if one in runs and "ours" in runs
    ]
    peaks = ", ".join(f"{each / 1e9:,.0f} GFLOP/s in {name}" for name, each in peak.items())
    return [
        "# Training: speed and memory",
        f"Made by `python benchmarks/train.py --data DATA {given(options)}` on {where(options)}.",
        f"{said_of(options.shape)}; {options.steps} steps of {BATCH} translation instructions (FLORES-200) of at "
        f"most {options.length} tokens, {'LoRA of rank 16' if options.lora else 'full fine-tuning'}, AdamW, "
        f"{options.precision} unless named otherwise. Real tokens "
        "are those of prompts and answers, without padding; the first step is not timed. Each method runs in a "
        f"process of its own, and they take turns; memory is {MEMORY[options.device]}. The script's own text says "
        "what each method is. Losses of `all` and `trainer` are over all tokens, those of the rest over answers; "
        "packing in TRL has other steps.",
        "\n".join(table),
        f"MFU, the utilisation of model FLOPs: {4 if options.lora else 6} for each weight and real token, over "
        f"what a product of large matrices reaches here ({peaks}). Ours needs fewer: it computes logits at "
        "answers alone.",
        "\n".join(said),
    ]


def given(options: argparse.Namespace) -> str:
    """The options that figures depend on."""
    names = ("shape", "steps", "rounds", "threads", "device", "precision", "length")
    return " ".join(f"--{name} {getattr(options, name)}" for name in names) + (" --lora" if options.lora else "")


def where(options: argparse.Namespace) -> str:
    """The machine and the versions."""
    said = describe("torch", "transformers", "trl")
    if options.device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, {said}"
    return said


if __name__ == "__main__":
    main()
