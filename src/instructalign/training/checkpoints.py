"""Checkpoints: written atomically, checked before resuming, and the final model saved from them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from instructalign.config import AdapterConfig, Config, known_model_keys
from instructalign.errors import RunFolderError, TrainingError
from instructalign.files import readable, text_hash
from instructalign.mixture.training_data import TrainingData
from instructalign.run_folder import NEUTRAL_KEYS
from instructalign.training.early_stopping import STOPPING_STATE
from instructalign.training.metrics_log import COUNTERS
from instructalign.training.models import LoadedModel, model_hash, quiet_loading
from instructalign.training.weight_files import damage_of

IDENTITY = "identity.json"
_REQUIRED = (IDENTITY, "trainer_state.json", COUNTERS, STOPPING_STATE)
_UNSHARDED = ("*.safetensors", "optimizer.pt", "scheduler.pt")  # where each process holds everything
_NAME = re.compile(r"checkpoint-(\d+)")
_IDENTITY_EXAMPLES = 256  # of the training stream, in the hash of the data
_REMOVE_IT = "Remove that folder; training then resumes from the one before, or starts over."


# -- what a checkpoint was made from -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckpointIdentity:
    """Hashes of everything that the weights of a checkpoint depend on, whatever the files are called.

    Attributes:
        model: the base's weights, configuration and tokenizer.
        data: the first examples of the stream, which change with every row that is added, removed or moved.
        settings: what the configuration says of model and training, without paths.
        extended: the base with new pieces (`model.vocabulary`); empty without, and before it is there.
    """

    model: str
    data: str
    settings: str
    extended: str = ""


_DIFFERENCES = {
    "model": "the base model is another one, or its files have changed",
    "data": "the corpora or the replay data have changed, so the same step would see other examples",
    "settings": "the configuration of model or training is another one",
    "extended": "its folder extended, the base with new pieces, is another one",
}


def identity_of(config: Config, data: TrainingData, last: Path | None = None) -> CheckpointIdentity:
    """The identity of the checkpoints that a run writes and can resume from.

    Args:
        config: the run's configuration.
        data: what it trains on.
        last: a whole checkpoint to resume from. It may be of a run of fewer steps: `open_folder` has seen to it
            that these are the same steps.
    """
    plain = config.to_dict()
    if last is not None:
        steps = json.loads((last / "trainer_state.json").read_text(encoding="utf-8")).get("max_steps")
        plain["training"]["steps"] = min(steps or config.training.steps, config.training.steps)
    training = {key: value for key, value in plain["training"].items() if key not in NEUTRAL_KEYS["training"]}
    model = {key: value for key, value in known_model_keys(plain["model"]).items() if key != "base"}
    examples = (data.mixture[i] for i in range(_IDENTITY_EXAMPLES))
    return CheckpointIdentity(
        model_hash(config.model.base, config.model.revision),
        text_hash([(example.prompt, example.answer) for example in examples])[:12],
        text_hash([training, model, config.seed])[:12],
    )


def check_whole(checkpoint: Path) -> None:
    """Checks that a checkpoint is complete and undamaged.

    Raises:
        RunFolderError: it is not; the message says what is missing or damaged.
    """
    missing = [name for name in _REQUIRED if not (checkpoint / name).is_file()]
    if missing:
        raise RunFolderError(
            f"{checkpoint} is not a complete checkpoint: no {', no '.join(missing)}. {_REMOVE_IT}"
        )
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    if broken := sorted(str(path.relative_to(checkpoint)) for path in files if damage_of(path)):
        raise RunFolderError(f"{checkpoint} is damaged: {', '.join(broken)} cannot be read. {_REMOVE_IT}")


def check_identity(checkpoint: Path, identity: CheckpointIdentity) -> None:
    """Checks that a checkpoint is of this run.

    Raises:
        RunFolderError: it is not; the message says what is different.
    """
    saved = json.loads((checkpoint / IDENTITY).read_text(encoding="utf-8"))
    known = {name: value for name, value in asdict(identity).items() if value}
    reasons = [_DIFFERENCES[name] for name, value in known.items() if saved.get(name, value) != value]
    if reasons:
        raise RunFolderError(
            f"cannot resume from {checkpoint}: {'; '.join(reasons)}. Restore what it was made from, or start over "
            "in another folder with --out."
        )


def check_layout(checkpoint: Path, layout: str) -> None:
    """Checks that a checkpoint can be read by a run that is launched this way.

    Args:
        checkpoint: its folder.
        layout: as `AlignTrainer.layout` says it.

    Raises:
        RunFolderError: its optimizer's state has another layout, or is not there: the Trainer would start with
            empty moments without saying so.
    """
    saved = json.loads((checkpoint / IDENTITY).read_text(encoding="utf-8")).get("layout", "whole")
    if saved != layout:
        ways = {"whole": "one process or DDP", "fsdp": "FSDP", "deepspeed": "DeepSpeed"}
        raise RunFolderError(
            f"{checkpoint} was written by {ways.get(saved, saved)}, and this run is launched with {ways[layout]}, "
            "which stores the optimizer's state in another layout. Launch it as before (accelerate launch "
            "--config_file)."
        )
    missing = [name for name in _UNSHARDED if layout == "whole" and not any(checkpoint.glob(name))]
    if missing:
        raise RunFolderError(f"{checkpoint} has no {', no '.join(missing)}. {_REMOVE_IT}")


# -- writing and removing ------------------------------------------------------------------------------------


def partial_folder(folder: Path) -> Path:
    """Where checkpoints are written until they are complete."""
    return folder / ".partial"


def clear_partial(folder: Path) -> None:
    """Removes what an interrupted write left."""
    shutil.rmtree(partial_folder(folder), ignore_errors=True)


def complete_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    named = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named)]


def publish(folder: Path, step: int, keep: int, spared: Collection[int] = ()) -> Path:
    """Moves a completely written checkpoint to its own name and removes the oldest ones.

    Args:
        folder: the run's `checkpoints` folder; the new checkpoint is in its partial folder.
        step: the checkpoint's step.
        keep: how many checkpoints stay, the new one included.
        spared: steps whose checkpoints stay beside them.
    """
    written = partial_folder(folder) / f"checkpoint-{step}"
    final = folder / f"checkpoint-{step}"
    if final.exists():  # the same, since step s of a run is the same whenever it is done
        shutil.rmtree(written)
        return final
    for path in written.rglob("*"):
        if path.is_file():
            _sync(path)
    # On the disk before its name says that it is complete, and the name before older ones are removed.
    _sync(written)
    written.rename(final)
    _sync(folder)
    kept = {f"checkpoint-{each}" for each in spared}
    for old in [path for path in complete_checkpoints(folder)[:-keep] if path.name not in kept]:
        # Renamed first: an interrupted removal must not leave half a checkpoint under a checkpoint's name.
        doomed = partial_folder(folder) / old.name
        old.rename(doomed)
        shutil.rmtree(doomed)
    return final


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explaining_full_disk(out: Path, what: str) -> Iterator[None]:
    """Explains a failed write inside the block where the reason is a full disk.

    Args:
        out: the run's folder.
        what: what is written, for the message.

    Raises:
        TrainingError: there is no space left. What was half written is removed; complete checkpoints stay.
    """
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        clear_partial(out / "checkpoints")
        whole = complete_checkpoints(out / "checkpoints")
        left = f"{whole[-1].name} is complete" if whole else "there is no checkpoint yet"
        raise TrainingError(
            f"no space is left on the disk of {out} for {what}; {left}. Free some space (lower "
            "training.keep_checkpoints, or move the folder to a larger disk) and rerun the same command to resume."
        ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk is full."""
    if error is None:
        return False
    text = str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors puts the system's message into its own; torch.save says only that its writer failed.
    full |= "No space left on device" in text or "os error 28" in text
    full |= isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "inline_container" in text)
    return full or _is_full_disk(error.__cause__ or error.__context__)


# -- the final model -----------------------------------------------------------------------------------------


def save_model(
    model: Any,
    loaded: LoadedModel,
    adapter: AdapterConfig | None,
    folder: Path,
    *,
    state: dict[str, Any] | None = None,
    fresh: Callable[[], Any],
) -> None:
    """Saves the adapted model atomically, loadable by transformers alone.

    An adapter is merged into the weights unless the configuration keeps it apart.

    Args:
        model: the trained model, or its peft wrapper.
        loaded: the base it came from, with its tokenizer.
        adapter: the adapter's configuration, if there is one.
        folder: the model's folder; an existing one is replaced.
        state: all weights by name, where `model` itself holds only a part of them; None where it has them all.
        fresh: loads the base again in full precision, with the same adapter untrained, for an adapter whose own
            base is quantised or sharded.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_loading():
        if adapter and adapter.merge:
            if adapter.quantised or state is not None:
                model = _merged_into_fresh(model, state, fresh)
            else:
                model = model.merge_and_unload()
            state = None
        model.save_pretrained(
            partial, **({} if state is None else {"state_dict": _without_tied_copies(model, state)})
        )
    loaded.tokenizer.save_pretrained(partial)
    for file in partial.rglob("*"):
        if file.is_file():
            readable(file)
    (partial / "README.md").unlink(missing_ok=True)  # peft's, which says nothing but the base's path
    # A model that is there already is this run's own, which was stopped before run.json said that it is finished.
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _without_tied_copies(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Weights without second names of the same one, which `save_pretrained` recognises only by shared memory."""
    names: Any = getattr(model, "_tied_weights_keys", None)  # private: copy -> original, or a list in old models
    pairs = names if isinstance(names, dict) else {}
    copies = {
        copy
        for copy, weight in pairs.items()
        if copy in state and weight in state and torch.equal(state[copy], state[weight])
    }
    return {name: weight for name, weight in state.items() if name not in copies}


def _merged_into_fresh(model: Any, state: dict[str, Any] | None, fresh: Callable[[], Any]) -> Any:
    """The base in full precision with the trained adapter merged into it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    trained = get_peft_model_state_dict(model, state_dict=state)
    whole = fresh()
    set_peft_model_state_dict(whole, {name: weight.cpu() for name, weight in trained.items()})
    return whole.merge_and_unload()
