"""Our scorer as a model of lm-evaluation-harness, beside the harness's own `hf` model on its own tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_tasks import DEFINED, ITEMS, write_task

from instructalign.errors import DataError, ModelError
from test_cli import call

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its libraries'
    import lm_eval
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from instructalign.evaluation.lm_eval_model import InstructAlignLM

pytestmark = pytest.mark.filterwarnings("ignore")
GENERATED = ["gsm8k", "nq_open", "wmt14-fr-en"]
SCORED = [name for name in DEFINED if name not in GENERATED]
TEMPLATE = (
    "{% for turn in messages %}<{{ turn['role'] }}>{{ turn['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder of all the tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in DEFINED:
        write_task(folder, name)
    return folder


def run(model: Any, folder: Path, names: list[str], **options: Any) -> Any:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(model=model, tasks=names, task_manager=manager, bootstrap_iters=0, **options)


def theirs(folder: Path, **options: Any) -> Any:
    return HFLM(pretrained=str(folder), device="cpu", batch_size=3, dtype="float32", **options)


def assert_same(ours: Any, harness: Any, names: list[str]) -> int:
    """Every response and every metric is the same; gives the number of responses."""
    count = 0
    for name in names:
        mine, other = (
            [answer[0] for sample in found["samples"][name] for answer in sample["resps"]]
            for found in (ours, harness)
        )
        assert len(mine) == len(other) > 0
        for one, two in zip(mine, other, strict=True):
            if isinstance(two, tuple):
                assert one[0] == pytest.approx(two[0], abs=1e-4)
                assert one[1] == two[1]
            elif isinstance(two, float):
                assert one == pytest.approx(two, rel=1e-6)
            else:
                assert one == two
        count += len(mine)
        assert ours["results"][name].keys() == harness["results"][name].keys()
        for metric, value in harness["results"][name].items():
            got = ours["results"][name][metric]
            assert got == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), (name, metric)
    return count


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2, window of 24", "mpt"])
def test_every_request_and_metric_equals_the_harnesss_own_model(model_folder, tasks, family):
    names = list(DEFINED) if family in ("llama", "bloom") else SCORED
    folder, length = model_folder(family), {"max_length": 512}  # which the harness does not find for MPT
    ours = run(InstructAlignLM(str(folder), dtype="float32", device="cpu", **length), tasks, names)
    assert assert_same(ours, run(theirs(folder, **length), tasks, names), names) > 250
    assert len(names) >= 12


def test_an_encoder_decoder_model_gives_the_same_likelihoods(model_folder, tasks):
    folder = model_folder("t5")
    ours = run(InstructAlignLM(str(folder), dtype="float32", device="cpu"), tasks, SCORED)
    assert_same(ours, run(theirs(folder), tasks, SCORED), SCORED)


def test_an_encoder_decoder_model_generates_the_same_text_up_to_its_limit(model_folder):
    options = {"until": ["zz"], "max_gen_toks": 12, "do_sample": False}
    requests = requests_for("generate_until", [("Where is the food?", options), ("dia", options)])
    folder = model_folder("t5")
    ours = InstructAlignLM(str(folder), dtype="float32", device="cpu").generate_until(requests)
    # The harness lets an encoder-decoder model write as many tokens more as its longest prompt has.
    for mine, other in zip(ours, theirs(folder).generate_until(requests), strict=True):
        assert mine
        assert other.startswith(mine)


def requests_for(kind: str, arguments: list[Any]) -> list[Instance]:
    return [Instance(kind, {}, each, place) for place, each in enumerate(arguments)]


@pytest.mark.parametrize("shots", [0, 5])
def test_shared_contexts_run_once(model_folder, tasks, tmp_path, shots):
    folder, names = model_folder("llama"), ["mmlu_anatomy", "sciq"]
    for name in names:
        write_task(tmp_path, name, fewshot_config={"sampler": "first_n"})
    lm, other = InstructAlignLM(str(folder), dtype="float32", device="cpu"), theirs(folder)
    seen = [count_tokens(lm.model), count_tokens(other.model)]
    ours = run(lm, tmp_path, names, num_fewshot=shots)
    assert_same(ours, run(other, tmp_path, names, num_fewshot=shots), names)
    mine, harness = map(sum, seen)
    assert mine < harness / (3 if shots else 1.3)


def count_tokens(model: Any) -> list[int]:
    seen: list[int] = []

    def count(_: Any, args: Any, keywords: Any) -> None:
        seen.append((args[0] if args else keywords["input_ids"]).numel())

    model.register_forward_pre_hook(count, with_kwargs=True)
    return seen


def test_chats_are_the_harnesss(model_folder, tasks, tmp_path):
    folder = copy_of(model_folder("llama"), tmp_path / "chat")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    names = ["arc_easy", "nq_open"]
    options = {"apply_chat_template": True, "fewshot_as_multiturn": True, "num_fewshot": 2}
    options["system_instruction"] = "Be brief."
    ours = run(InstructAlignLM(str(folder), dtype="float32", device="cpu"), tasks, names, **options)
    assert_same(ours, run(theirs(folder), tasks, names, **options), names)
    prompt = ours["samples"]["arc_easy"][0]["arguments"][0][0]
    assert prompt.startswith("<system>Be brief.\n<user>")
    assert prompt.count("<user>") == 3


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_longer_text_than_the_context_loses_its_beginning_as_in_the_harness(model_folder):
    folder = model_folder("llama")
    arguments = [("omah banyu " * 40, " kali gunung"), ("omah banyu " * 40, " kali"), ("short", " one")]
    requests = requests_for("loglikelihood", arguments)
    ours = InstructAlignLM(str(folder), dtype="float32", device="cpu", max_length=60)
    other = theirs(folder, max_length=60)
    for mine, their in zip(ours.loglikelihood(requests), other.loglikelihood(requests), strict=True):
        assert mine[0] == pytest.approx(their[0], abs=1e-4)
    texts = requests_for("loglikelihood_rolling", [("omah banyu " * 60,), ("short",), ("",)])
    rolled = ours.loglikelihood_rolling(texts)
    assert rolled == pytest.approx(other.loglikelihood_rolling(texts), rel=1e-6)
    assert rolled[2] == 0.0


def test_generation_ends_each_row_at_its_stop_string(model_folder):
    folder = model_folder("llama")
    lm = InstructAlignLM(str(folder), dtype="float32", device="cpu")
    free = {"until": [], "max_gen_toks": 24, "do_sample": False}
    contexts = ["the food is", "makanan di sini", "omah " * 9]
    texts = lm.generate_until(requests_for("generate_until", [(each, free) for each in contexts]))
    stops = [text[len(text) // 3 : len(text) // 3 + 2] for text in texts]
    asked = [(each, {**free, "until": stops}) for each in contexts]
    seen = count_tokens(lm.model)
    stopped = lm.generate_until(requests_for("generate_until", asked))
    assert stopped == theirs(folder).generate_until(requests_for("generate_until", asked))
    assert all(len(short) < len(text) for short, text in zip(stopped, texts, strict=True))
    assert len(seen) < 24


def test_an_adapters_folder_is_its_base_with_the_adapter(model_folder, tasks, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = model_folder("llama")
    torch.manual_seed(1)
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, init_lora_weights=False))
    adapter.save_pretrained(tmp_path / "adapter")
    names = ["arc_easy", "nq_open"]
    ours = run(InstructAlignLM(str(tmp_path / "adapter"), dtype="float32", device="cpu"), tasks, names)
    assert_same(ours, run(theirs(base, peft=str(tmp_path / "adapter")), tasks, names), names)
    plain = run(InstructAlignLM(str(base), dtype="float32", device="cpu"), tasks, ["arc_easy"])
    assert plain["samples"]["arc_easy"][0]["resps"] != ours["samples"]["arc_easy"][0]["resps"]


def test_answers_are_kept_in_the_harnesss_cache(model_folder, tasks, tmp_path):
    names, where = ["arc_easy", "nq_open", "wikitext"], str(tmp_path / "cache")
    lm = InstructAlignLM(str(model_folder("llama")), dtype="float32", device="cpu")
    first = run(lm, tasks, names, use_cache=where)
    seen = count_tokens(lm.model)
    assert_same(run(lm, tasks, names, use_cache=where), first, names)
    assert seen == []


def test_what_cannot_be_scored_is_named(model_folder):
    lm = InstructAlignLM(str(model_folder("llama")), device="cpu", max_length=16)
    with pytest.raises(DataError, match=r"request 1: the continuation has no tokens"):
        lm.loglikelihood(requests_for("loglikelihood", [("a", " b"), ("a", "")]))
    with pytest.raises(DataError, match=r"request 0: the continuation has \d+ tokens.*context of 16"):
        lm.loglikelihood(requests_for("loglikelihood", [("a b", " b" * 40)]))
    with pytest.raises(DataError, match=r"max_gen_toks: 16 .* context of 16"):
        lm.generate_until(requests_for("generate_until", [("a", {"until": ["\n"], "max_gen_toks": 16})]))
    with pytest.raises(ModelError, match="mixed_precision_dtype"):
        InstructAlignLM(str(model_folder("llama")), mixed_precision_dtype="bfloat16")
    with pytest.raises(ModelError, match="does not exist"):
        InstructAlignLM("./nowhere")


@pytest.mark.slow
def test_the_command_line_is_the_harnesss(model_folder, tasks, tmp_path, monkeypatch):
    arguments = ["--tasks", "sciq", "--include_path", tasks, "--model_args"]
    arguments += [f"pretrained={model_folder('llama')},dtype=float32", "--device", "cpu"]
    done = call("lm-eval", *arguments, "--output_path", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    [file] = (tmp_path / "out").rglob("results*.json")
    found = json.loads(file.read_text())
    assert found["config"]["model"] == "instructalign"
    expected = run(theirs(model_folder("llama")), tasks, ["sciq"])["results"]["sciq"]
    assert found["results"]["sciq"]["acc,none"] == expected["acc,none"]
    monkeypatch.setattr("instructalign.evaluation.lm_eval_tasks.find_spec", lambda _: None)
    missing = call("lm-eval", *arguments)
    assert missing.returncode == 1
    assert "instructalign[lm-eval]" in missing.stderr


@pytest.mark.slow
def test_two_processes_share_the_work(model_folder, tasks, tmp_path):
    start = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    start += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    names = ["arc_easy", "nq_open", "wikitext"]
    arguments = ["--tasks", ",".join(names), "--include_path", str(tasks), "--log_samples"]
    arguments += ["--model_args", f"pretrained={model_folder('llama')},dtype=float32"]
    arguments += ["--output_path", str(tmp_path)]
    done = subprocess.run(
        [*start, "-m", "instructalign", "lm-eval", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [file] = tmp_path.rglob("results*.json")
    found = json.loads(file.read_text())["results"]
    alone = run(theirs(model_folder("llama")), tasks, names)
    for name in names:
        for metric, value in alone["results"][name].items():
            if isinstance(value, float):
                assert found[name][metric] == pytest.approx(value, rel=1e-5), (name, metric)
    for name in names:
        [samples] = tmp_path.rglob(f"samples_{name}_*.jsonl")
        docs = sorted(json.loads(line)["doc_id"] for line in samples.read_text().splitlines())
        assert docs == list(range(ITEMS))
