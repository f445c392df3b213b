"""Which model a user means, a folder, a name on the Hub or a run's, and how it is asked for a translation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from instructalign.config import Config, ModelConfig
from instructalign.config_file import load_config
from instructalign.errors import ConfigError, ModelError
from instructalign.evaluation.batch_runner import this_process
from instructalign.instructions import load_templates
from instructalign.training.cpu_kernels import warn_slow_half_precision
from instructalign.training.models import LoadedModel, load_model


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model that is to be used.

    Attributes:
        model: how it is loaded.
        config: the configuration of the run that it comes from; None where it comes from none.
        run: that run's folder.
    """

    model: ModelConfig
    config: Config | None = None
    run: Path | None = None


def choose_model(name: str) -> ChosenModel:
    """The model that a name stands for: a model folder, a name on the Hub, `toy`, or a run for its adapted model.

    A run's model, also if it is given by its own folder, is asked as in its evaluation: with the run's chat
    template and options, system prompt and data type.

    Raises:
        ModelError: a run has no adapted model yet, or a folder holds runs but no model.
        ConfigError: a run's configuration cannot be read.
    """
    folder = Path(name).expanduser()
    is_model = any((folder / file).is_file() for file in ("config.json", "adapter_config.json"))
    run = folder.parent if is_model and folder.name == "model" else None if is_model else folder
    if run is None or not (run / "config.yaml").is_file():
        runs = sorted(str(each.parent) for each in folder.glob("*/config.yaml")) if not is_model else []
        if runs:
            raise ModelError(f"{name} is neither a model nor a run. It holds runs, choose one: {', '.join(runs)}")
        on_gpu = torch.cuda.is_available()
        return ChosenModel(ModelConfig(base=name, dtype="auto" if on_gpu else "float32"))
    config = load_config(run / "config.yaml")
    model = run / "model"
    if not model.is_dir():
        raise ModelError(
            f"{run} has no adapted model: its training is not finished. Resume it with `instructalign run "
            f"{run / 'config.yaml'} --out {run}`, or give the base model, {config.model.base}."
        )
    settings = config.answering_model.model_copy(update={"base": str(model), "revision": None})
    return ChosenModel(settings, config, run)


def load_for_use(model: ModelConfig) -> LoadedModel:
    """Loads a model onto the GPU, where there is one.

    Raises:
        ModelError: it cannot be loaded.
    """
    loaded = load_model(model)
    device = this_process().device
    warn_slow_half_precision(str(loaded.model.dtype).removeprefix("torch."), device.type)
    loaded.model.to(device)
    return loaded


def translation_prompt(config: Config | None, source: str, target: str) -> Callable[[str], str]:
    """The wording that asks for a translation: the first of a run's training; the first shipped for other models.

    Args:
        config: the run's configuration; None for a model of no run.
        source, target: codes of the languages.
    """
    sets = config.instructions.templates if config else ["eng"]
    try:
        template = load_templates(sets, ["mt"])["mt"][0]
    except ConfigError:  # a run without translation among its objectives may have no template for it
        template = load_templates(["eng"], ["mt"])["mt"][0]
    given = config.languages.names if config else {}
    names = {code: template.name_of(code, given) for code in (source, target)}
    return lambda text: template.prompt.format(source=names[source], target=names[target], text=text)
