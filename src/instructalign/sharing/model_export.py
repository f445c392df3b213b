"""A trained model for other programs: GGUF (llama.cpp), Ollama, CTranslate2, or a plain folder (vLLM)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from instructalign.config import ModelConfig
from instructalign.errors import InstructAlignError, ModelError
from instructalign.files import read_object, readable, refuse_existing, write_json, write_text
from instructalign.interact.model_choice import choose_model
from instructalign.mixture.carried_replay import MEMORY_FILES
from instructalign.training.chat import ChatTemplate
from instructalign.training.models import check_weights, load_codec, load_model

ExportForm = Literal["gguf", "ollama", "ctranslate2", "folder"]
_QUANTISATIONS: dict[str, tuple[str, ...]] = {
    "gguf": ("f32", "f16", "bf16", "q8_0"),
    "ollama": ("f32", "f16", "bf16", "q8_0"),
    "ctranslate2": (
        "float32",
        "float16",
        "bfloat16",
        "int16",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
    ),
    "folder": (),
}
_NEEDS = {"gguf": ("convert_hf_to_gguf", "gguf"), "ctranslate2": ("ctranslate2", "ctranslate2")}
_SYSTEM, _USER, _ANSWER, _AGAIN = "Systemtext", "Questiontext", "Answertext", "Followtext"


def export_model(model: str | Path, form: ExportForm, out: str | Path, *, quantise: str = "") -> list[Path]:
    """Writes a model for another program, and gives the files or the folder that it needs.

    Args:
        model: a run's folder, or a model's.
        form: `gguf` for llama.cpp and what is built on it, `ollama` for the same with a Modelfile, `ctranslate2`,
            `folder` for vLLM and transformers: the plain model, an adapter merged.
        out: the folder to write to; it must not exist.
        quantise: a type of numbers that the form knows, such as q8_0 or int8; by default that of the weights.

    Raises:
        ModelError: the model cannot be loaded, or the form cannot have it: its architecture, its tokenizer or its
            chat template is not known there.
        InstructAlignError: the form, its package or the quantisation is missing, or `out` exists.
    """
    out = Path(out)
    if form not in get_args(ExportForm):
        raise InstructAlignError(f"--format: {form!r} is not one of {', '.join(get_args(ExportForm))}.")
    known = _QUANTISATIONS[form]
    if quantise and quantise not in known:
        more = "; llama.cpp's llama-quantize makes others of the GGUF" if form in ("gguf", "ollama") else ""
        raise InstructAlignError(f"--quantise: {form} has {', '.join(known) or 'none'}, found {quantise!r}{more}.")
    module, extra = _NEEDS.get("gguf" if form == "ollama" else form, ("", ""))
    if module and find_spec(module) is None:
        raise InstructAlignError(f"--format {form} needs {module}: pip install 'instructalign[{extra}]'")
    refuse_existing(out)
    config = _model_of(Path(model))
    check_weights(config.base)
    codec = load_codec(config)
    if codec.encoder_decoder and form in ("gguf", "ollama"):
        raise ModelError(
            f"{model} has an encoder and a decoder, which programs for GGUF do not run (or without a chat). Use "
            "--format ctranslate2 or folder."
        )
    modelfile = _modelfile(codec.chat, codec.tokenizer, str(model)) if form == "ollama" else ""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        made, plain = Path(place) / "made", _plain_folder(config, Path(place) / "model", copy=form == "folder")
        if form == "folder":
            made = plain
        elif form == "ctranslate2":
            _to_ctranslate2(plain, made, quantise)
        else:
            made.mkdir()
            _to_gguf(plain, made / "model.gguf", quantise or "auto", str(model))
            if modelfile:
                write_text(made / "Modelfile", modelfile)
        for file in made.rglob("*"):
            if file.is_file():
                readable(file)
        made.rename(out)
    return sorted(path for path in out.iterdir() if path.suffix == ".gguf" or path.name == "Modelfile") or [out]


def _model_of(model: Path) -> ModelConfig:
    """The configuration by which a run's adapted model, or a model in a folder, is loaded."""
    if not model.is_dir():
        raise ModelError(
            f"{model} is no folder. Name a run's folder or a model's; download one from the Hub first."
        )
    chosen = choose_model(str(model))
    if chosen.config is None:
        return ModelConfig(base=str(model))
    # As in training: `chosen.model` may have another data type, that of the evaluation.
    changes = {"base": chosen.model.base, "revision": None, "adapter": None}
    return chosen.config.model.model_copy(update=changes)


def _plain_folder(config: ModelConfig, place: Path, *, copy: bool) -> Path:
    """A folder with the model and nothing else: a copy where one is needed, an adapter merged into its base."""
    source = Path(config.base)
    if not (source / "adapter_config.json").is_file():
        if not copy:
            return source
        shutil.copytree(source, place, ignore=lambda _, names: [*MEMORY_FILES, *(n for n in names if n[0] == ".")])
        return place
    loaded = load_model(config, trainable=True)
    loaded.model.save_pretrained(place)
    loaded.tokenizer.save_pretrained(place)
    return place


def _to_ctranslate2(folder: Path, out: Path, quantise: str) -> None:
    from ctranslate2.converters import TransformersConverter

    kept = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
    files = [name for name in kept if (folder / name).is_file()]
    try:
        TransformersConverter(str(folder), copy_files=files).convert(str(out), quantization=quantise or None)
    except (ValueError, KeyError, NotImplementedError, RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{folder}: ctranslate2 cannot convert it: {said}. Use --format folder.") from error
    settings = read_object(out / "config.json", json.loads)  # its runtime wants text for every token
    write_json(out / "config.json", {key: "" if value is None else value for key, value in settings.items()})


def _to_gguf(folder: Path, out: Path, outtype: str, model: str) -> None:
    command = [
        sys.executable,
        "-m",
        "convert_hf_to_gguf",
        str(folder),
        "--outfile",
        str(out),
        "--outtype",
        outtype,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and out.is_file():
        return
    said = done.stderr.strip()
    if "pre-tokenizer was not recognized" in said or "get_vocab_base_pre" in said:
        raise ModelError(
            f"{model}: llama.cpp knows tokenizers by name, and not this one (a tokenizer of your own, or an "
            "extended vocabulary). Use --format ctranslate2 or folder."
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["it ended without a word"]
    raise ModelError(
        f"{model} cannot be converted to GGUF: {lines[-1].strip()}. Use --format ctranslate2 or folder."
    )


@dataclass(frozen=True, slots=True)
class TurnMarks:
    """What stands around the texts of a conversation: before and after each role's, and before the answer to come.

    There is nothing for a system where the model has no turn of it.
    """

    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str

    def render(self, turns: Sequence[tuple[str, str]]) -> str:
        """A conversation with its marks."""
        return "".join(text.join(getattr(self, role)) for role, text in turns) + self.answer


def _modelfile(chat: ChatTemplate | None, tokenizer: Any, model: str) -> str:
    """A Modelfile for Ollama whose template renders conversations as in training.

    Raises:
        ModelError: the chat template does more than to put marks around the turns.
    """
    stop = tokenizer.eos_token
    if chat is None:
        template, default = "{{ .Prompt }}", ""
    else:
        writes_bos = "bos_token" in chat.template  # llama.cpp adds it by itself
        marks, default = _turn_marks(chat, (tokenizer.bos_token or "") if writes_bos else "", model)
        stop = str(chat.to_dict()["turn_end"])
        branches = "{{ else ".join(
            f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
            for role in ("system", "user", "assistant")
            for before, after in [getattr(marks, role)] * (getattr(marks, role) is not None)
        ).replace("{{ else {{ if", "{{ else if")
        template = f"{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{marks.answer}"
    lines = ["FROM ./model.gguf", f'TEMPLATE """{template}"""', f'PARAMETER stop "{stop}"']
    return "\n".join([*lines, *([f'SYSTEM """{default}"""'] if default else []), ""])


def _turn_marks(chat: ChatTemplate, bos: str, model: str) -> tuple[TurnMarks, str]:
    """The marks of a chat template, and the system prompt that it writes where a conversation has none."""

    def render(*turns: tuple[str, str]) -> str:
        text = chat.render([{"role": role, "content": content} for role, content in turns])
        return text.removeprefix(bos) if bos else text

    system, user = ("system", _SYSTEM), ("user", _USER)
    talk = [user, ("assistant", _ANSWER), ("user", _AGAIN)]
    parts = re.split(f"{_SYSTEM}|{_USER}|{_ANSWER}|{_AGAIN}", render(system, *talk))
    alone = render(user).partition(_USER)[0]
    tried = [[user], talk, [system, user], [system, *talk], [system, *talk, ("assistant", "x"), user]]
    if chat.system_in_user:  # which Ollama's templates cannot say of the first turn alone
        if chat.system_prompt is not None:
            raise ModelError(
                f"{model}: its chat template has no system's turn, and an Ollama template cannot put "
                "model.system_prompt into the first turn alone. Use --format gguf."
            )
        head, *rest = re.split(f"{_USER}|{_ANSWER}|{_AGAIN}", render(*talk))
        parts, tried = [head, rest[1], *rest] if len(rest) == 3 else [], [[user], talk, [*talk, *talk[1:]]]
    for marks in _possible_marks(parts, alone):
        head, middle = parts[0], parts[1]
        with_default = alone.startswith(head) and alone.endswith(middle) and len(alone) > len(head + middle)
        default = alone.removeprefix(head).removesuffix(middle) if with_default else ""
        first = [("system", default)] if default else []
        if chat.system_in_user:
            marks, first, default = replace(marks, system=None), [], ""
        if '"""' in f"{marks}{default}" or "{{" in f"{marks}{default}":
            continue
        if all(render(*turns) == marks.render(turns if turns[0] == system else first + turns) for turns in tried):
            return marks, default
    raise ModelError(
        f"{model}: its chat template does more than to put marks around the turns, so that no Ollama template "
        "renders conversations as it does. Use --format gguf, which has the template inside, and a "
        "program that reads it, such as llama.cpp's server."
    )


def _common_beginning(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _possible_marks(parts: Sequence[str], alone: str) -> Iterator[TurnMarks]:
    """Ways to divide what stands between the texts of system, user, assistant and user into what is whose."""
    if len(parts) != 5:  # a text is left out, or written twice
        return
    head, middle, to_answer, from_answer, tail = parts
    common = partial(reduce, _common_beginning)
    # Each turn ends alike: with what is common to all ends, without the beginning of the next turn.
    end = common([middle, to_answer, from_answer, tail])
    begun = next((length for length in range(len(end), 0, -1) if head.startswith(end[-length:])), 0)
    end = end[: len(end) - begun]
    cut = len(end)
    yield TurnMarks((head, end), (middle[cut:], end), (to_answer[cut:], end), tail[cut:])
    # Or each role has marks of its own.
    before_user = common([middle[::-1], from_answer[::-1], alone[::-1]])[::-1]
    after_user = common([to_answer, tail])
    yield TurnMarks(
        (head, middle.removesuffix(before_user)),
        (before_user, after_user),
        (to_answer.removeprefix(after_user), from_answer.removesuffix(before_user)),
        tail.removeprefix(after_user),
    )
