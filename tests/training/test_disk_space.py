"""A full disk is said before training and survived after."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import assert_same_weights, configure, settings

from instructalign.config import VocabularyConfig
from instructalign.config_file import build_config
from instructalign.errors import TrainingError
from instructalign.training import checkpoints, preflight
from instructalign.training.train import train

Usage = namedtuple("Usage", "total used free")


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(10 * count, 9 * count, count))


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("adapter", "optimizer"),
    [
        (None, "adamw"),
        ({"r": 4}, "adamw"),
        ({"r": 4, "merge": False}, "adamw"),
        (None, "adafactor"),
        (None, "adamw_8bit"),
    ],
)
def test_the_estimate_is_what_a_run_takes(adapter: Any, optimizer: str, tmp_path: Path) -> None:
    if optimizer == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    # Wide enough for weights to outweigh what else is written.
    from tiny import save_tiny, tiny_model

    save_tiny(tmp_path / "base", width=256)
    data = settings(tmp_path, steps=4, keep_checkpoints=2, optimizer=optimizer)
    data["model"]["adapter"] = adapter
    config = build_config(data, folder=tmp_path)
    result = train(config, tmp_path / "run")
    tiny = tiny_model("llama", width=256)
    total = sum(weight.numel() for weight in tiny.parameters())
    trained, embedded = total, preflight.trained_embeddings(tiny)
    if adapter:
        from instructalign.training.adapters import add_adapter
        from instructalign.training.models import load_model

        assert config.model.adapter is not None
        model = add_adapter(load_model(str(tmp_path / "base")), config.model.adapter)
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    taken = held(tmp_path / "run" / "checkpoints") + held(result.model)
    taken += held(tmp_path / "run" / "checkpoints" / "checkpoint-4")  # the one more while it is written
    expected = preflight.disk_bytes(config, total, trained, 4, embedded if trained == total else 0)
    assert taken == pytest.approx(expected, rel=0.15)


def test_an_extended_base_takes_space_of_its_own(tmp_path: Path) -> None:
    plain = configure(tmp_path)
    model = plain.model.model_copy(update={"vocabulary": VocabularyConfig(add=10)})
    extended = plain.model_copy(update={"model": model})
    assert preflight.disk_bytes(extended, 1000, 1000, 4) - preflight.disk_bytes(plain, 1000, 1000, 4) == 4000


def test_too_little_space_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    with pytest.raises(TrainingError, match=r"need about [\d.]+ [kM]B on the disk .* and .* are free\. Lower"):
        train(configure(tmp_path), tmp_path / "run")
    assert not checkpoints.complete_checkpoints(tmp_path / "run" / "checkpoints")


def test_scarce_space_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free(monkeypatch, 1000)
    preflight.check_disk(tmp_path, 900)
    assert "need about 900 B" in caplog.text
    caplog.clear()
    preflight.check_disk(tmp_path, 700)
    assert not caplog.text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run of six steps for which there was space."""
    folder = tmp_path_factory.mktemp("whole")
    return train(configure(folder, steps=6), folder / "run").model


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
    ids=["enospc", "torch", "torch-position"],
)
def test_a_disk_that_fills_up_is_survived(
    error: Exception, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tmp_path, steps=6)
    real = torch.save
    written: list[int] = []

    def fails(*args: Any, **kwargs: Any) -> None:
        written.append(1)
        if len(written) > 8:  # in the middle of the second checkpoint
            Path(str(args[1])).write_bytes(b"half")
            raise error
        real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(TrainingError, match=r"no space is left .* for checkpoint-\d; checkpoint-\d is complete"):
        train(config, tmp_path / "full")
    assert len(checkpoints.complete_checkpoints(tmp_path / "full" / "checkpoints")) == 1
    assert not checkpoints.partial_folder(tmp_path / "full" / "checkpoints").exists()
    monkeypatch.setattr(torch, "save", real)
    assert_same_weights(whole, train(config, tmp_path / "full").model)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), checkpoints.explaining_full_disk(tmp_path, "a file"):
        raise RuntimeError("something else")
    with pytest.raises(PermissionError), checkpoints.explaining_full_disk(tmp_path, "a file"):
        raise PermissionError(errno.EACCES, "not permitted")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint of the tiny model and not for two."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not done or done.returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_is_too_small(
    small_disk: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tmp_path, steps=6)
    with pytest.raises(TrainingError, match="are free"):
        train(configure(tmp_path, steps=6, keep_checkpoints=9), small_disk / "refused")
    monkeypatch.setattr("instructalign.training.train.check_disk", lambda out, needed: None)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(550_000))
    with pytest.raises(TrainingError, match=r"no space is left on the disk"):
        train(config, small_disk / "run")
    filler.unlink()
    result = train(config, small_disk / "run")
    assert_same_weights(whole, result.model)
    assert small_disk.stat().st_dev != tmp_path.stat().st_dev
