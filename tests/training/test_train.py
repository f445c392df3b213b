"""Training runs on tiny models: what they learn, what they record, and that a stop changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killable
import pytest
import torch
import yaml
from safetensors.torch import load_file

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, ModelError, RunFolderError, TrainingError
from instructalign.mixture.training_data import prepare_data
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import compile_layers, load_codec
from instructalign.training.train import train
from processes import exit_code, start
from tiny import FAMILIES, NEWER, save_tiny, tiny_model, tiny_tokenizer

SENTENCES = [
    ("the food is good", "panganane enak"),
    ("the place is clean", "panggonane resik"),
    ("the food is clean", "panganane resik"),
    ("the place is good", "panggonane enak"),
    ("good and clean", "enak lan resik"),
    ("the place and the food", "panggonane lan panganane"),
    ("the food is here", "panganane ing kene"),
    ("the place is here", "panggonane ing kene"),
]


def settings(folder: Path, family: str = "llama", **training: Any) -> dict[str, Any]:
    """A configuration on a tiny corpus with tiny replay, its files written into the folder."""
    if not (folder / "base").exists():
        save_tiny(folder / "base", family)
    (folder / "corpus.tsv").write_text(
        "eng\tjav\n" + "".join(f"{a}\t{b}\n" for a, b in SENTENCES), encoding="utf-8"
    )
    past = [{"inputs": f"is {word} a word?", "targets": "yes"} for word in ("good", "clean", "food", "place")]
    (folder / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")
    return {
        "model": {"base": "base"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "eng", "jav": "jav"}}],
        "instructions": {"heldout": 2},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 4, "share": 0.25},
        "training": {
            "steps": 6,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "max_length": 96,
            "checkpoint_every": 2,
            "log_every": 1,
            "report_to": [],
            **training,
        },
    }


def configure(folder: Path, family: str = "llama", **training: Any) -> Config:
    return build_config(settings(folder, family, **training), folder=folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_close(one: Path, other: Path, updates: float = 0.05) -> None:
    """Weights differ by no more than a part of one update (Adam amplifies rounding where gradients vanish)."""
    first, second = weights(one), weights(other)
    for name in first:
        assert torch.allclose(first[name], second[name], atol=3e-3 * updates), name


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("tokens_per_second", "peak_memory_mb")}
        for line in lines
    ]


# mT0 and Aya-101 are mT5 by build.
@pytest.mark.parametrize("family", FAMILIES + NEWER)
def test_every_family_learns_saves_loads_and_resumes(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, pipeline

    config = configure(tmp_path, family, steps=12, checkpoint_every=6, keep_checkpoints=2)
    result = train(config, tmp_path / "run")
    assert result.finished
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.5
    factory: Any = AutoModelForSeq2SeqLM if family in ("mt5", "t5") else AutoModelForCausalLM
    model = factory.from_pretrained(result.model)
    assert not model.training
    before, after = (AutoConfig.from_pretrained(at).to_dict() for at in (config.model.base, result.model))
    assert after.get("use_cache") == before.get(
        "use_cache"
    )  # training has none, which is not the model's business
    if family == "llama":
        [out] = pipeline("text-generation", model=str(result.model))("the food", max_new_tokens=3)
        assert out["generated_text"].startswith("the food")
    result.model.rename(tmp_path / "whole")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-12")
    assert_same_weights(tmp_path / "whole", train(config, tmp_path / "run").model)


def test_a_chat_models_turns_are_recorded_and_end_in_the_adapted_model_too(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|e|>"]})
    tokenizer.chat_template = (
        "{{ strftime_now('%Y') }}{% for m in messages %}[{{ m.role }}]{{ m.content }}<|e|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    model = tiny_model("llama")
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    result = train(configure(tmp_path, steps=1, max_length=160), tmp_path / "run")
    chat = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["model"]["chat"]
    assert (chat["turn_end"], chat["options"]) == ("<|e|>", {})
    assert any("2024-07-26" in note for note in chat["notes"])
    ends = json.loads((result.model / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<|e|>") in ends
    plain = settings(tmp_path, steps=1, max_length=160)
    other = build_config({**plain, "model": {"base": "base", "chat_date": "2026-01-01"}}, folder=tmp_path)
    with pytest.raises(RunFolderError, match=r"model\.chat_date"):  # a run does not go on with another date
        train(other, tmp_path / "run")


def test_record_has_planned_and_realised_shares(tmp_path: Path) -> None:
    train(configure(tmp_path), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    realised = record["mixture"]["realised"]
    assert record["mixture"]["planned"]["replay"] == 0.25
    assert sum(realised["rows"].values()) == 6 * 8
    assert realised["rows"]["replay"] == 12
    assert realised["replay_share"]["rows"] == 0.25
    assert record["corpus"]["train"] == 6
    assert record["corpus"]["heldout"] == 2
    assert [line["step"] for line in log(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert "heldout_loss" in log(tmp_path / "run")[-1]
    assert all(line["tokens_per_second"] > 0 and line["peak_memory_mb"] > 50 for line in log(tmp_path / "run"))


def test_resume_from_any_checkpoint_gives_identical_weights(tmp_path: Path) -> None:
    config = configure(tmp_path, keep_checkpoints=10)
    whole = train(config, tmp_path / "whole")
    for step in (2, 4):
        stopped = tmp_path / f"stopped-{step}"
        subprocess.run(["cp", "-r", tmp_path / "whole", stopped], check=True)
        subprocess.run(["rm", "-r", stopped / "model"], check=True)
        for later in (2, 4, 6):
            if later > step:
                subprocess.run(["rm", "-r", stopped / "checkpoints" / f"checkpoint-{later}"], check=True)
        again = train(config, stopped)
        assert_same_weights(whole.model, again.model)
        assert untimed(log(stopped)) == untimed(log(tmp_path / "whole"))
        record = json.loads((stopped / "run.json").read_text(encoding="utf-8"))
        assert sum(record["mixture"]["realised"]["rows"].values()) == 6 * 8


def test_micro_batches_change_neither_examples_nor_gradient(tmp_path: Path) -> None:
    whole = train(configure(tmp_path, steps=2), tmp_path / "one")
    parts = train(configure(tmp_path, steps=2, micro_batch_size=2), tmp_path / "four")
    assert_close(whole.model, parts.model)
    assert log(tmp_path / "one")[0]["loss"] == pytest.approx(log(tmp_path / "four")[0]["loss"], abs=1e-5)


def test_workers_change_nothing(tmp_path: Path) -> None:
    plain = train(configure(tmp_path, steps=3, micro_batch_size=2), tmp_path / "plain")
    workers = train(configure(tmp_path, steps=3, micro_batch_size=2, workers=2), tmp_path / "workers")
    assert_same_weights(plain.model, workers.model)


@pytest.mark.parametrize(("kind", "targets"), [("lora", "all-linear"), ("dora", ["q_proj", "v_proj"])])
def test_adapters_are_merged_into_a_plain_model(kind: str, targets: Any, tmp_path: Path) -> None:
    data = settings(tmp_path)
    data["model"]["adapter"] = {"type": kind, "r": 4, "targets": targets}
    result = train(build_config(data, folder=tmp_path), tmp_path / "run")
    base, adapted = weights(tmp_path / "base"), weights(result.model)
    assert base.keys() == adapted.keys()
    assert torch.equal(base["model.embed_tokens.weight"], adapted["model.embed_tokens.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(base[name], adapted[name])


def test_losses_are_logged_by_objective_and_by_language(tmp_path: Path) -> None:
    train(configure(tmp_path, log_every=6), tmp_path / "run")
    [line] = log(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    counted = record["mixture"]["realised"]["loss_tokens"]
    by_kind = {kind: line[f"loss/{kind}"] for kind in counted}
    mean = sum(counted[kind] * by_kind[kind] for kind in counted) / sum(counted.values())
    # The loss of the line is the mean over steps, this one over tokens.
    assert mean == pytest.approx(line["loss"], rel=0.02)
    assert {"language_loss/eng", "language_loss/jav"} <= set(line)
    assert line["padding"] == pytest.approx(record["padding"], abs=1e-6)
    assert 0 <= record["padding"] < 0.5


@pytest.mark.parametrize(("scheduler", "last"), [("constant", 1), ("linear", 0.5), ("cosine", 0.5)])
def test_every_schedule_begins_with_the_warmup(scheduler: str, last: float, tmp_path: Path) -> None:
    train(configure(tmp_path, steps=4, warmup=2, scheduler=scheduler, learning_rate=1e-3), tmp_path / "run")
    assert [line["learning_rate"] for line in log(tmp_path / "run")] == pytest.approx([0, 5e-4, 1e-3, 1e-3 * last])


def test_another_optimizer_learns_and_resumes_exactly(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=4, optimizer="adafactor", keep_checkpoints=3)
    result = train(config, tmp_path / "run")
    result.model.rename(tmp_path / "whole")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    assert_same_weights(tmp_path / "whole", train(config, tmp_path / "run").model)
    plain = train(configure(tmp_path, steps=4), tmp_path / "plain")
    assert any(not torch.equal(w, weights(plain.model)[name]) for name, w in weights(tmp_path / "whole").items())


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
def test_moments_of_8_bits_learn_and_resume_exactly(optimizer: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_tiny(tmp_path / "base", width=64)  # it leaves weights of fewer than 4 096 numbers in 32 bits
    config = configure(tmp_path, steps=4, optimizer=optimizer, keep_checkpoints=3)
    result = train(config, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "checkpoint-4" / "optimizer.pt", weights_only=True)
    kept = [moments["__bnb_optimizer_quant_state__"]["state1"].dtype for moments in state["state"].values()]
    assert {torch.uint8, torch.float32} == set(kept)  # the embeddings' and the small ones' stay whole
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert losses[-1] < losses[0]
    result.model.rename(tmp_path / "whole")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    assert_same_weights(tmp_path / "whole", train(config, tmp_path / "run").model)
    # Rounded moments are close to the whole ones: after four steps within what one step moves a weight.
    plain = train(configure(tmp_path, steps=4), tmp_path / "plain")
    assert_close(plain.model, tmp_path / "whole", updates=1)


def test_an_optimizer_whose_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructalign.training.requirements.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"adamw_8bit needs bitsandbytes.*pip install 'instructalign\[quant"):
        train(configure(tmp_path, optimizer="adamw_8bit"), tmp_path / "run")


def test_a_model_without_named_layers_cannot_be_compiled() -> None:
    model = tiny_model("llama")
    model._no_split_modules = None
    with pytest.raises(ModelError, match=r"LlamaForCausalLM does not say which .* are layers .*compile: false"):
        compile_layers(model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # PyTorch's own look at what it compiles
def test_compiled_layers_learn_the_same(tmp_path: Path) -> None:
    plain = train(configure(tmp_path, steps=2), tmp_path / "plain")
    compiled = train(configure(tmp_path, steps=2, compile=True), tmp_path / "compiled")
    assert_close(plain.model, compiled.model)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpointed_activations_and_autocast_go_with_the_loss(precision: str, tmp_path: Path) -> None:
    plain = train(configure(tmp_path, steps=3, precision=precision), tmp_path / "plain")
    config = configure(tmp_path, steps=3, precision=precision, gradient_checkpointing=True)
    again = train(config, tmp_path / "again")
    assert_close(plain.model, again.model)


def test_adapter_on_layers_that_are_not_there(tmp_path: Path) -> None:
    data = settings(tmp_path)
    data["model"]["adapter"] = {"targets": ["query_key_value"]}
    with pytest.raises(ModelError, match=r"query_key_value.*Its layers: .*q_proj"):
        train(build_config(data, folder=tmp_path), tmp_path / "run")


def test_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=2)
    result = train(config, tmp_path / "run")
    before = (result.model / "model.safetensors").stat().st_mtime_ns
    again = train(config, tmp_path / "run")
    assert again.finished
    assert (again.model / "model.safetensors").stat().st_mtime_ns == before


def test_stopped_between_the_last_step_and_the_record(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=4)
    result = train(config, tmp_path / "run")
    shutil.copytree(result.model, tmp_path / "before")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    del record["training_hash"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    again = train(config, tmp_path / "run")
    assert (again.finished, again.step) == (True, 4)
    assert_same_weights(tmp_path / "before", again.model)
    after = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert sum(after["mixture"]["realised"]["rows"].values()) == 4 * 8


def test_half_precision_without_a_gpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(TrainingError, match=r"float16, which needs a GPU.*--set training\.precision=float32"):
        train(configure(tmp_path, precision="float16"), tmp_path / "run")


def test_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(configure(tmp_path, steps=2), tmp_path / "run")
    with pytest.raises(
        RunFolderError, match=r"another configuration; different: training\.batch_size \(\d+ there, 5 here\)"
    ):
        train(configure(tmp_path, steps=2, batch_size=5), tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"a run of 2 steps, which cannot go on to 3 .*scheduler linear"):
        train(configure(tmp_path, steps=3), tmp_path / "run")
    stranger = tmp_path / "photos"
    stranger.mkdir()
    (stranger / "cat.jpg").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"holds no run \(found: cat\.jpg\)"):
        train(configure(tmp_path, steps=3), stranger)


def test_run_whose_labels_are_all_masked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructalign.training import batching

    monkeypatch.setattr(
        batching, "truncate_pair", lambda prompt, answer, end, length, first=None: (prompt[:length], [])
    )
    with pytest.raises(TrainingError, match="every label would be masked"):
        train(configure(tmp_path), tmp_path / "run")


def test_length_above_the_models_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"max_length is 4096, but .* reads at most 512"):
        train(configure(tmp_path, max_length=4096), tmp_path / "run")


def test_model_folder_without_a_tokenizer(tmp_path: Path) -> None:
    config = configure(tmp_path)
    for path in (tmp_path / "base").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"holds a model but no tokenizer .*tokenizer\.save_pretrained"):
        train(config, tmp_path / "run")


def test_killed_at_any_moment_it_ends_the_same(tmp_path: Path) -> None:
    data = settings(tmp_path, steps=30, checkpoint_every=3)
    path, out = tmp_path / "config.yaml", tmp_path / "killed"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    whole = train(build_config(data, folder=tmp_path), tmp_path / "whole")
    for signal_number, ends in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, killable.UNFINISHED)):
        before = {*out.glob("checkpoints/checkpoint-*")}
        process = start(killable.run_plainly, path, out)
        wait_for(
            lambda before=before: bool({*out.glob("checkpoints/checkpoint-*")} - before),
            lambda process=process: process.exitcode,
        )
        os.kill(process.pid, signal_number)
        assert exit_code(process) == ends
    assert exit_code(start(killable.run_plainly, path, out)) == 0
    assert_same_weights(whole.model, out / "model")


def wait_for(condition: Callable[[], bool], how_ended: Callable[[], int | None], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition() and how_ended() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert condition(), how_ended()


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_the_planned_share_is_realised_and_token_shares_are_counted(family: str, tmp_path: Path) -> None:
    data = settings(tmp_path, family, steps=40, batch_size=16, checkpoint_every=40, learning_rate=1e-4)
    data["replay"] |= {"share": 0.3}
    config = build_config(data, folder=tmp_path)
    train(config, tmp_path / "run")
    mixture = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["mixture"]
    planned, realised = mixture["planned"], mixture["realised"]
    assert (planned["replay"], planned["shares"]) == (0.3, {"rows": 0.3})
    assert planned["rows"] == realised["rows"]["replay"] == 192
    assert planned["repeats"] == 192 / 4
    stream, encoder = (
        prepare_data(config).mixture,
        ExampleEncoder(load_codec(config.model), config.training.max_length),
    )
    lengths = {"replay": [0, 0], "new": [0, 0]}
    for made in (stream[i] for i in range(640)):
        encoded = encoder(made)
        of_kind = lengths["replay" if made.objective == "replay" else "new"]
        of_kind[0] += len(encoded.prompt) + len(encoded.answer)
        of_kind[1] += len(encoded.answer)  # every prompt has at least one token, so no answer token is the first
    for place, unit in enumerate(("tokens", "loss_tokens")):
        share = lengths["replay"][place] / (lengths["replay"][place] + lengths["new"][place])
        assert realised["replay_share"][unit] == pytest.approx(share)


def test_more_past_examples_than_may_be_shown_are_refused_before_training(tmp_path: Path) -> None:
    data = settings(tmp_path)
    data["replay"] |= {"repeat": False}
    message = (
        r"replay\.repeat is false, but the run replays 12 of its 48 examples and the replay buffer holds 4.*: "
        r"each would be shown 3\.0 times\. Raise replay\.size to 12"
    )
    with pytest.raises(ConfigError, match=message):
        train(build_config(data, folder=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    data["training"]["steps"] = 2
    train(build_config(data, folder=tmp_path), tmp_path / "again")
    record = json.loads((tmp_path / "again" / "run.json").read_text(encoding="utf-8"))
    assert record["mixture"]["planned"]["repeats"] == 1
