"""Several processes learn what one learns, and resume from each other's checkpoints."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from test_train import assert_close, log, settings, wait_for

ROOT = Path(__file__).parents[2]
DDP = ["-m", "instructalign"]
FSDP = [str(Path(__file__).parent / "fsdp_on_cpu.py")]
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
slow = pytest.mark.slow


def command(processes: int, config: Path, out: Path, how: list[str]) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    return [*start, *how, "train", str(config), "--out", str(out)]


def environment(how: list[str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **(FSDP2 if how is FSDP else {})}


def launch(processes: int, config: Path, out: Path, how: list[str] = DDP) -> str:
    """Trains in several processes, over gloo on this machine; returns what they print."""
    started = command(processes, config, out, how)
    done = subprocess.run(started, capture_output=True, text=True, env=environment(how), timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def refused(processes: int, config: Path, out: Path, how: list[str]) -> str:
    """What the processes say that will not train."""
    started = command(processes, config, out, how)
    done = subprocess.run(started, capture_output=True, text=True, env=environment(how), timeout=280)
    assert done.returncode != 0
    return done.stderr


def write(folder: Path, family: str = "llama", adapter: dict[str, Any] | None = None, **training: Any) -> Path:
    path = folder / "config.yaml"
    data = settings(folder, family, **{"steps": 4, "micro_batch_size": 2, "keep_checkpoints": 5, **training})
    data["model"]["adapter"] = adapter
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def unfinish(whole: Path, half: Path) -> None:
    """The folder of a run as it was after two of four steps."""
    shutil.copytree(whole, half)
    shutil.rmtree(half / "model")
    shutil.rmtree(half / "checkpoints" / "checkpoint-4")


@slow
@pytest.mark.parametrize(
    ("family", "adapter", "how"),
    [
        ("llama", None, DDP),
        ("t5", {"r": 4, "train_embeddings": "new"}, DDP),
        ("llama", None, FSDP),
        ("qwen2", None, FSDP),
        ("bloom", {"r": 4}, FSDP),
    ],
    ids=["ddp", "ddp-t5-rows", "fsdp2", "fsdp2-tied", "fsdp2-lora"],
)
def test_two_processes_learn_what_one_learns(family: str, adapter: Any, how: list[str], tmp_path: Path) -> None:
    config = write(tmp_path, family, adapter)
    launch(1, config, tmp_path / "one")
    said = launch(2, config, tmp_path / "two", how)
    assert said.count("the adapted model is in") == 1
    assert_close(tmp_path / "one" / "model", tmp_path / "two" / "model")
    for first, second in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-4)


@slow
@pytest.mark.parametrize(
    ("before", "after", "how"), [(2, 1, DDP), (1, 2, DDP), (2, 2, FSDP)], ids=["2-1", "1-2", "fsdp2"]
)
def test_checkpoints_are_shared(tmp_path: Path, before: int, after: int, how: list[str]) -> None:
    config = write(tmp_path)
    launch(before, config, tmp_path / "whole", how)
    unfinish(tmp_path / "whole", tmp_path / "half")
    launch(after, config, tmp_path / "half", how)
    assert_close(tmp_path / "whole" / "model", tmp_path / "half" / "model")
    # The parts that were computed alike are alike: the optimizer's state was loaded, not started over.
    assert log(tmp_path / "half")[-1]["grad_norm"] == pytest.approx(
        log(tmp_path / "whole")[-1]["grad_norm"], abs=1e-4
    )


@slow
def test_what_fsdp_cannot_do_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path)
    launch(1, config, tmp_path / "whole")
    unfinish(tmp_path / "whole", tmp_path / "half")
    said = refused(2, config, tmp_path / "half", FSDP)
    assert "was written by one process or DDP, and this run is launched with FSDP" in said
    config = write(tmp_path, adapter={"train_embeddings": "new"})
    assert "train_embeddings: new" in refused(2, config, tmp_path / "rows", FSDP)
    (tmp_path / "t5").mkdir()
    config = write(tmp_path / "t5", "t5")
    assert "encoder and decoder share their embeddings" in refused(2, config, tmp_path / "t5-run", FSDP)


@slow
def test_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path, batch_size=7)
    said = refused(2, config, tmp_path / "run", DDP)
    assert "batch_size (7) must be a multiple of the number of processes (2)" in said


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_of_two_processes_stops_both_and_loses_nothing(number: int, tmp_path: Path) -> None:
    config = write(tmp_path, steps=30, checkpoint_every=2)
    launch(2, config, tmp_path / "whole")
    started = command(2, config, tmp_path / "run", DDP)
    process = subprocess.Popen(started, stdout=subprocess.PIPE, text=True, env=environment(DDP))
    wait_for(lambda: bool(list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))), process.poll)
    psutil.Process(process.pid).children()[1].send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.count("stopped at step") == 1
    launch(2, config, tmp_path / "run")
    assert_close(tmp_path / "whole" / "model", tmp_path / "run" / "model", updates=1e-6)


@slow
def test_the_shipped_configuration_launches(tmp_path: Path) -> None:
    config = write(tmp_path, steps=2)
    start = [sys.executable, "-m", "accelerate.commands.launch"]
    start += ["--config_file", str(ROOT / "configs" / "accelerate" / "ddp.yaml"), "--num_processes", "2", *DDP]
    done = subprocess.run(
        [*start, "train", str(config), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env=environment(DDP),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "rng_state_1.pth").exists()  # there were two


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_configurations_are_accelerates(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    loaded = load_config_from_file(str(path))
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert loaded.distributed_type == DistributedType[kinds[path.stem]]
    assert loaded.mixed_precision == "no"
    if path.stem == "fsdp2":
        # What the tests above run with on processors is what is shipped for GPUs.
        shipped = {
            f"FSDP_{key.removeprefix('fsdp_').upper()}": str(value) for key, value in loaded.fsdp_config.items()
        }
        assert {key: shipped[key].lower() for key in FSDP2 if key != "ACCELERATE_USE_FSDP"} == {
            key: value.lower() for key, value in FSDP2.items() if key != "ACCELERATE_USE_FSDP"
        }
    if path.stem.startswith("zero"):
        assert loaded.deepspeed_config["zero_stage"] == int(path.stem[-1])
