"""Checkpoints: written atomically, checked before a resume, and the final model saved from them."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open

from instructalign.config import AdapterConfig, Config
from instructalign.errors import RunFolderError
from instructalign.files import text_hash
from instructalign.mixture.training_data import Data
from instructalign.run_folder import FREE
from instructalign.training.early_stopping import WATCH
from instructalign.training.metrics_log import TALLY
from instructalign.training.models import LoadedModel, model_hash, quiet_loading
from instructalign.training.preflight import CHECKED_EXAMPLES

_NAME = re.compile(r"checkpoint-(\d+)")
PARTIAL = ".partial"


def partial_folder(folder: Path) -> Path:
    """Where checkpoints are written before they are complete."""
    return folder / PARTIAL


def publish(folder: Path, step: int, keep: int, spared: Collection[int] = ()) -> Path:
    """Moves a completely written checkpoint to its own name and removes the oldest ones.

    Args:
        folder: the run's `checkpoints` folder; the new checkpoint lies in its partial folder.
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
    _sync(written)
    written.rename(final)
    _sync(folder)
    kept = {f"checkpoint-{each}" for each in spared}
    for old in [path for path in complete(folder)[:-keep] if path.name not in kept]:
        # Renamed first: a removal cut short must not leave half a checkpoint under a checkpoint's name.
        doomed = partial_folder(folder) / old.name
        old.rename(doomed)
        shutil.rmtree(doomed)
    return final


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    named = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named)]


def clear_partial(folder: Path) -> None:
    """Removes what an interrupted write left behind."""
    shutil.rmtree(partial_folder(folder), ignore_errors=True)


def damaged(folder: Path) -> list[str]:
    """The files of a checkpoint that are cut off, or not what their names say; few of them are read whole."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and _is_broken(path)
    )


def _is_broken(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy"):  # compares the file's length with what its header says
                pass
        elif path.suffix in (".pt", ".pth"):  # PyTorch's are zip archives, with the table of contents at the end
            return not zipfile.is_zipfile(path)
    except (ValueError, SafetensorError):
        return True
    return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


IDENTITY = "origin.json"
STATE = "trainer_state.json"  # the Trainer's own, written last
NEEDED = (IDENTITY, STATE, TALLY, WATCH)
WHOLE = ("*.safetensors", "optimizer.pt", "scheduler.pt")  # where no process holds a part alone

_REMOVE_IT = "Remove that folder; training then goes on from the one before, or from the start."


@dataclass(frozen=True, slots=True)
class CheckpointIdentity:
    """Hashes of everything that the weights of a checkpoint depend on, whatever the files are called.

    Attributes:
        model: the base's weights, configuration and tokenizer.
        data: the first examples of the stream, which change with every row that is added, taken out or moved.
        settings: what the configuration says of model and training, without paths.
    """

    model: str
    data: str
    settings: str


_SAYS = {
    "model": "the base model is another one, or its files have changed since",
    "data": "the corpora or the past data have changed since, so the same step would see other examples",
    "settings": "the configuration of model or training is another one",
}


def identity_of(config: Config, data: Data) -> CheckpointIdentity:
    """What the checkpoints of a run are made from."""
    plain = yaml.safe_load(config.to_yaml())
    training = {key: value for key, value in plain["training"].items() if key not in FREE["training"]}
    model = {key: value for key, value in plain["model"].items() if key != "base"}
    examples = (data.mixture[i] for i in range(CHECKED_EXAMPLES))
    return CheckpointIdentity(
        model_hash(config.model.base, config.model.revision),
        text_hash([(example.prompt, example.answer) for example in examples])[:12],
        text_hash([training, model, config.seed])[:12],
    )


def check_checkpoint(checkpoint: Path, origin: CheckpointIdentity) -> None:
    """Sees to it that a checkpoint is whole and this run's own.

    Raises:
        RunFolderError: it is not; the message says what differs.
    """
    missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
    if missing:
        raise RunFolderError(
            f"{checkpoint} is no checkpoint of a run: it has no {' and no '.join(missing)}. {_REMOVE_IT}"
        )
    if broken := damaged(checkpoint):
        raise RunFolderError(f"{checkpoint} is damaged: {', '.join(broken)} cannot be read. {_REMOVE_IT}")
    saved = json.loads((checkpoint / IDENTITY).read_text(encoding="utf-8"))
    reasons = [_SAYS[name] for name, value in asdict(origin).items() if saved.get(name) != value]
    if reasons:
        raise RunFolderError(
            f"{checkpoint} cannot be gone on from: {'; '.join(reasons)}. Put back what it was made from, or start "
            "anew in another folder with --out."
        )


def check_layout(checkpoint: Path, layout: str) -> None:
    """Sees to it that a checkpoint can be read by a run that is launched this way.

    Raises:
        RunFolderError: its optimizer's state is laid out in another way, which would be passed over.
    """
    saved = json.loads((checkpoint / IDENTITY).read_text(encoding="utf-8")).get("layout", "whole")
    if saved != layout:
        ways = {"whole": "one process, or several with DDP", "fsdp": "FSDP", "deepspeed": "DeepSpeed"}
        raise RunFolderError(
            f"{checkpoint} was written by {ways.get(saved, saved)} and this run is launched with {ways[layout]}, "
            "which lays out the optimizer's state in another way. Launch it as before (accelerate launch "
            "--config_file)."
        )
    # Without them the Trainer would begin with empty moments, and say nothing.
    missing = [name for name in WHOLE if layout == "whole" and not any(checkpoint.glob(name))]
    if missing:
        raise RunFolderError(f"{checkpoint} has no {' and no '.join(missing)}. {_REMOVE_IT}")


def save_model(
    model: Any,
    loaded: LoadedModel,
    adapter: AdapterConfig | None,
    folder: Path,
    *,
    state: dict[str, Any] | None = None,
    fresh: Callable[[], Any],
) -> None:
    """Saves the adapted model so that it appears whole, loadable by transformers alone.

    An adapter is merged into the weights unless the configuration keeps it apart.

    Args:
        model: the trained model, or its peft wrapper.
        loaded: the base it came from, with its tokenizer.
        adapter: the adapter's configuration, if there is one.
        folder: the model's folder; what stands there is replaced.
        state: all weights by name, where `model` itself holds only a part of them; None where it has them all.
        fresh: gives the base anew in full precision, with the same adapter untrained, for an adapter whose own
            base is quantised or held in parts.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_loading():
        if adapter and adapter.merge:
            apart = adapter.quantised or state is not None
            model, state = (_merged_anew(model, state, fresh) if apart else model.merge_and_unload()), None
        model.save_pretrained(partial, **({} if state is None else {"state_dict": _without_copies(model, state)}))
    loaded.tokenizer.save_pretrained(partial)
    # A model that stands there already is this run's own: the record of its end was not written any more.
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _without_copies(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Leaves out weights that are there under a second name, as `save_pretrained` does where memory is shared."""
    names: Any = getattr(model, "_tied_weights_keys", None)
    pairs = names if isinstance(names, dict) else {}
    copies = {
        copy
        for copy, weight in pairs.items()
        if copy in state and weight in state and torch.equal(state[copy], state[weight])
    }
    return {name: weight for name, weight in state.items() if name not in copies}


def _merged_anew(model: Any, state: dict[str, Any] | None, fresh: Callable[[], Any]) -> Any:
    """The base in full precision with the trained adapter merged into it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    trained = get_peft_model_state_dict(model, state_dict=state)
    whole = fresh()
    set_peft_model_state_dict(whole, {name: weight.cpu() for name, weight in trained.items()})
    return whole.merge_and_unload()
