"""Models for other programs: the same answers where their runtime is here, the same turns, refusals."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructalign.config import ModelConfig
from instructalign.config_file import load_config
from instructalign.errors import InstructAlignError, ModelError
from instructalign.sharing import model_export
from instructalign.sharing.model_export import export_model
from instructalign.training.models import load_codec
from test_cli import call
from tiny import save_tiny

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] }}<end>\n{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}[SYS] {{ m['content'] }} [/SYS]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
FORGETFUL = "{% for m in messages[-1:] %}<u>{{ m['content'] }}</u>{% endfor %}"


def with_template(folder: Path, template: str) -> Path:
    save_tiny(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.bos_token = template, "<s>"
    tokenizer.save_pretrained(folder)
    return folder


def go(template: str, turns: Sequence[tuple[str, str]]) -> str:
    """Renders what a Modelfile's template may have of Go's text/template: one range of if, else if, end."""
    body, tail = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*)", template, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = re.split(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}', body.removesuffix("{{ end }}"))
    assert parts[0] == ""
    branches = dict(zip(parts[1::2], parts[2::2], strict=True))
    return "".join(branches.get(role, "").replace("{{ .Content }}", text) for role, text in turns) + tail


def parts_of(modelfile: str) -> tuple[str, str, str]:
    found = [re.search(rf'{name} """(.*?)"""', modelfile, re.DOTALL) for name in ("TEMPLATE", "SYSTEM")]
    stop = re.search('PARAMETER stop "(.*)"', modelfile)
    assert found[0]
    assert stop
    return found[0][1], found[1][1] if found[1] else "", stop[1]


@pytest.mark.parametrize(
    ("template", "system"), [(CHATML, "You help."), (LLAMA3, ""), (MISTRAL, ""), (GEMMA, "")], ids=list("clmg")
)
def test_the_modelfile_renders_as_training_does(template: str, system: str, tmp_path: Path) -> None:
    codec = load_codec(ModelConfig(base=str(with_template(tmp_path / "model", template))))
    assert codec.chat is not None
    made, default, _ = parts_of(model_export._modelfile(codec.chat, codec.tokenizer, "m"))
    assert default == system
    user, talk = (
        ("user", "Apa kabar?"),
        [("user", "a b"), ("assistant", "c\nd"), ("user", "e"), ("assistant", "f")],
    )
    conversations = [[user], [*talk, user], [*talk, *talk, user]]
    if template != GEMMA:
        conversations += [[("system", "Be brief."), *turns] for turns in conversations]
    for turns in conversations:
        expected = codec.chat.render([{"role": role, "content": text} for role, text in turns])
        first = [("system", default)] if default and turns[0][0] != "system" else []
        bos = codec.tokenizer.bos_token if "bos_token" in template else ""
        assert bos + go(made, [*first, *turns]) == expected


def test_a_run_s_model_is_loaded_as_in_training_from_either_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with_template(run / "model", CHATML)
    config = load_config(
        {
            "model": {"base": "toy", "chat": "never"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "toy"}],
            "evaluation": {"dtype": "bfloat16"},
        }
    )
    (run / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    expected = ModelConfig(base=str(run / "model"), chat="never")
    assert model_export._model_of(run) == model_export._model_of(run / "model") == expected
    shutil.rmtree(run / "model")
    with pytest.raises(ModelError, match="no adapted model"):
        model_export._model_of(run)


def test_a_template_that_does_more_is_refused(tmp_path: Path) -> None:
    folder = with_template(tmp_path / "model", FORGETFUL)
    with pytest.raises(ModelError, match="--format gguf"):
        export_model(folder, "ollama", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctranslate2_answers_as_transformers_does(tmp_path: Path) -> None:
    ctranslate2: Any = pytest.importorskip("ctranslate2")
    folder = save_tiny(tmp_path / "model")
    [out] = export_model(folder, "ctranslate2", tmp_path / "out", quantise="float32")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    generator = ctranslate2.Generator(str(out), intra_threads=1)
    for number in range(20):
        ids = tokenizer(f"the food is good {number}")["input_ids"]
        expected = model.generate(
            torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, len(ids) :].tolist()
        tokens = tokenizer.convert_ids_to_tokens(ids)
        options = {"max_length": 8, "include_prompt_in_result": False, "sampling_topk": 1, "end_token": []}
        found = generator.generate_batch([tokens], **options)[0].sequences_ids[0]
        assert found == expected, number


def test_folder_merges_an_adapter_and_leaves_the_memory(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = save_tiny(tmp_path / "model")
    (folder / "replay.jsonl").write_text("{}\n")
    [out] = export_model(folder, "folder", tmp_path / "plain")
    assert not (out / "replay.jsonl").exists()
    assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    [merged] = export_model(tmp_path / "adapter", "folder", tmp_path / "merged")
    ids = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(merged)
    torch.testing.assert_close(plain(ids).logits, adapted.eval()(ids).logits, rtol=1e-4, atol=1e-4)


def test_refusals_say_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path / "model")
    with pytest.raises(ModelError, match="extended vocabulary"):
        export_model(folder, "gguf", tmp_path / "out")
    with pytest.raises(ModelError, match="ctranslate2"):
        export_model(save_tiny(tmp_path / "mt5", "mt5"), "gguf", tmp_path / "out")
    with pytest.raises(InstructAlignError, match=r"q8_0.*llama-quantize"):
        export_model(folder, "gguf", tmp_path / "out", quantise="q4_k_m")
    with pytest.raises(InstructAlignError, match="is no folder"):
        export_model("user/name", "folder", tmp_path / "out")
    monkeypatch.setattr(model_export, "find_spec", lambda name: None)
    with pytest.raises(InstructAlignError, match=r"instructalign\[gguf\]"):
        export_model(folder, "ollama", tmp_path / "out")
    (tmp_path / "out").mkdir()
    done = call("export", folder, "--format", "folder", "--out", tmp_path / "out")
    assert (done.returncode, "already exists" in done.stderr) == (1, True)
    shutil.rmtree(tmp_path / "out")
