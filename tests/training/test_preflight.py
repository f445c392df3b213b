"""What would make a run fail later, or worthless, is refused before the first step, with its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_train import configure, settings
from transformers import AutoTokenizer

from instructalign.config_file import build_config
from instructalign.errors import DataError, ModelError, RunFolderError, TrainingError
from instructalign.training.train import train
from tiny import save_tiny


def unfinished(folder: Path) -> Path:
    """A run that was stopped after its first checkpoint."""
    train(configure(folder, steps=4, keep_checkpoints=2), folder / "run")
    shutil.rmtree(folder / "run" / "model")
    shutil.rmtree(folder / "run" / "checkpoints" / "checkpoint-4")
    return folder / "run"


@pytest.mark.parametrize(("length", "template"), [(60, r"eng/tlm-\d+ alone takes 84"), (83, "takes 84 tokens")])
def test_length_below_the_longest_template(length: int, template: str, tmp_path: Path) -> None:
    # The longest, eng/tlm-8, has 82 of the tiny tokenizer's tokens; an answer and its end need one each.
    with pytest.raises(TrainingError, match=rf"max_length is {length},.*{template}"):
        train(configure(tmp_path, max_length=length), tmp_path / "run")


def test_length_of_the_longest_template_is_enough(tmp_path: Path) -> None:
    assert train(configure(tmp_path, max_length=84, steps=1), tmp_path / "run").finished


def test_only_templates_of_chosen_objectives_count(tmp_path: Path) -> None:
    data = settings(tmp_path, max_length=60, steps=1)
    data["instructions"]["objectives"] = {"mt": 1}
    assert train(build_config(data, folder=tmp_path), tmp_path / "run").finished


def test_tokenizer_of_another_model(tmp_path: Path) -> None:
    config = configure(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_tokens(["zxq"])
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match=r"'zxq' with id \d+, but the model has \d+ embeddings"):
        train(config, tmp_path / "run")


def test_weights_that_are_a_pointer_are_found_before_the_data_are_read(tmp_path: Path) -> None:
    config = configure(tmp_path)
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", encoding="utf-8")
    (tmp_path / "corpus.tsv").unlink()
    with pytest.raises(ModelError, match=rf"{weights} is a Git LFS pointer"):
        train(config, tmp_path / "run")


def test_padding_token_without_an_embedding(tmp_path: Path) -> None:
    config = configure(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match="'<padding>' with id"):
        train(config, tmp_path / "run")


def test_special_token_that_no_text_has_may_lie_outside(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(tmp_path / "base")
    assert train(config, tmp_path / "run").finished


def test_base_that_changed_since(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    save_tiny(tmp_path / "base", seed=1)
    with pytest.raises(RunFolderError, match=r"cannot resume from .*checkpoint-2: the base model is another"):
        train(configure(tmp_path, steps=4, keep_checkpoints=2), run)


def test_corpus_that_changed_since(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    config = configure(tmp_path, steps=4, keep_checkpoints=2)
    with (tmp_path / "corpus.tsv").open("a", encoding="utf-8") as file:
        file.write("the food was good\tpanganane wis enak\n")
    with pytest.raises(RunFolderError, match="checkpoint-2: the corpora or the replay data have changed"):
        train(config, run)


def test_checkpoint_of_another_run_that_was_copied_in(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    save_tiny(other / "base", seed=1)
    train(configure(other, steps=4, learning_rate=1e-3, keep_checkpoints=2), other / "run")
    shutil.copytree(other / "run" / "checkpoints" / "checkpoint-4", run / "checkpoints" / "checkpoint-3")
    with pytest.raises(RunFolderError, match=r"checkpoint-3: the base model is another.*; the configuration of"):
        train(configure(tmp_path, steps=4, keep_checkpoints=2), run)


def test_half_a_checkpoint_is_named(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    (run / "checkpoints" / "checkpoint-2" / "trainer_state.json").unlink()
    with pytest.raises(RunFolderError, match=r"checkpoint-2 is not a complete.* no trainer_state\.json"):
        train(configure(tmp_path, steps=4, keep_checkpoints=2), run)


def test_files_of_a_checkpoint_that_are_truncated_or_gone(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    checkpoint = run / "checkpoints" / "checkpoint-2"
    config = configure(tmp_path, steps=4, keep_checkpoints=2)
    for name in ("optimizer.pt", "model.safetensors", "counters.json", "trainer_state.json", "rng_state.pth"):
        whole = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunFolderError, match=rf"checkpoint-2 is damaged: {name} "):
            train(config, run)
        (checkpoint / name).write_bytes(whole)
    for name, called in (("optimizer.pt", r"optimizer\.pt"), ("model.safetensors", r"\*\.safetensors")):
        (checkpoint / name).rename(tmp_path / name)
        with pytest.raises(RunFolderError, match=rf"checkpoint-2 has no {called}"):
            train(config, run)
        (tmp_path / name).rename(checkpoint / name)
    assert train(config, run).finished


def test_records_of_a_run_that_are_damaged(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    for name in ("run.json", "config.yaml"):
        whole = (run / name).read_text(encoding="utf-8")
        (run / name).write_text('{"seed": [', encoding="utf-8")
        with pytest.raises(DataError, match=rf"{name}: .* Restore an intact copy"):
            train(configure(tmp_path, steps=4, keep_checkpoints=2), run)
        (run / name).write_text(whole, encoding="utf-8")


def test_base_may_move(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    here = json.loads((run / "checkpoints" / "checkpoint-2" / "identity.json").read_text(encoding="utf-8"))
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copytree(tmp_path / "base", moved / "base")
    train(configure(moved, steps=4, keep_checkpoints=2), moved / "run")
    there = json.loads(
        (moved / "run" / "checkpoints" / "checkpoint-2" / "identity.json").read_text(encoding="utf-8")
    )
    assert here == there
