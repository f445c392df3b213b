"""Model folders as people have them: adapters, pointers in place of files, special ids, chat templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from instructalign.config import ModelConfig
from instructalign.errors import ModelError
from instructalign.training.generation import generate
from instructalign.training.models import LoadedModel, load_codec, load_model, model_hash
from instructalign.training.preflight import check_tokenizer
from tiny import save_tiny, tiny_model, tiny_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 98\n"
TURNS = "{% for m in messages %}<|s|>{{ m.role }}:{{ m.content }}<|e|>\n{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}<|s|>assistant:{% endif %}"


def save_chat(folder: Path, family: str = "llama") -> Path:
    """A tiny chat model whose template ends turns with a token of its own."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|s|>", "<|e|>"]})
    tokenizer.chat_template = CHAT
    model = tiny_model(family)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter with weights of its own, as PEFT saves it: without a tokenizer."""
    base = save_tiny(tmp_path / "base")
    torch.manual_seed(1)
    model = get_peft_model(load_model(str(base)).model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[5, 6, 7, 8]])).logits
    return found


def test_an_adapter_is_a_base_with_the_tokenizer_of_what_is_beneath(adapter: Path) -> None:
    base = adapter.parent / "base"
    assert load_codec(ModelConfig(base=str(adapter))).tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    apart, merged = load_model(str(adapter)).model, load_model(str(adapter), trainable=True).model
    torch.testing.assert_close(logits(merged), logits(apart), atol=1e-5, rtol=0)
    assert (logits(merged) - logits(load_model(str(base)).model)).abs().max() > 0.01
    names = {name for name, _ in merged.named_parameters()}
    assert names == {name for name, _ in tiny_model("llama").named_parameters()}
    assert all(weight.requires_grad for weight in merged.parameters())
    before = model_hash(str(adapter))
    save_tiny(base, seed=1)
    assert model_hash(str(adapter)) != before  # it depends on both
    with pytest.raises(ModelError, match="quantised: false"):
        load_model(str(adapter), trainable=True, quantised=True)


def test_an_adapter_whose_base_is_away_names_it(adapter: Path) -> None:
    (adapter.parent / "base").rename(adapter.parent / "moved")
    with pytest.raises(ModelError, match=rf"model folder {adapter.parent / 'base'} does not exist"):
        load_codec(ModelConfig(base=str(adapter)))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_is_named(tmp_path: Path, name: str) -> None:
    folder = save_tiny(tmp_path / "model")
    (folder / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{folder / name} is a Git LFS pointer .*git lfs pull"):
        load_model(str(folder))


def test_damaged_weights_beneath_an_adapter_are_found(adapter: Path) -> None:
    (adapter.parent / "base" / "model.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(ModelError, match=r"base/model\.safetensors is damaged or truncated"):
        load_model(str(adapter))


def test_the_token_that_a_decoder_begins_with_is_known_before_the_first_step(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "t5")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings.pop("decoder_start_token_id", None)
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.decoder_start_token_id"):
        load_codec(ModelConfig(base=str(folder)))
    with pytest.raises(ModelError, match="token 999, but has"):
        load_codec(ModelConfig(base=str(folder), decoder_start_token_id=999))
    model: Any = load_model(ModelConfig(base=str(folder), decoder_start_token_id=0)).model
    expected = tiny_model("t5")
    labels = torch.tensor([[7, 8, 1]])
    both = [each(input_ids=torch.tensor([[5, 6]]), labels=labels).loss.item() for each in (model, expected)]
    assert both[0] == pytest.approx(both[1], abs=1e-6)


def test_the_template_belongs_to_a_models_hash(tmp_path: Path) -> None:
    folder = save_chat(tmp_path / "model")
    before = model_hash(str(folder))
    (folder / "chat_template.jinja").write_text(f"Be brief. {CHAT}", encoding="utf-8")
    assert model_hash(str(folder)) != before


def test_a_token_of_the_template_without_an_embedding_is_refused(tmp_path: Path) -> None:
    folder = save_chat(tmp_path / "model")
    check_tokenizer(load_model(str(folder)))
    tiny_model("llama").save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the token '<\|e\|>' with id"):
        check_tokenizer(load_model(str(folder)))


def speaks(loaded: LoadedModel, token: int) -> list[int]:
    """What a model writes that finds one token most likely, whatever came before."""
    model: Any = loaded.model
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        model.model.norm.weight.zero_()
        model.lm_head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
        model.lm_head.bias.zero_()[token] = 9.0
    return generate(loaded, [loaded.codec.pair("hello", "")[0]], 5, 100)[0].tokens


def test_generation_stops_where_the_template_ends_a_turn(tmp_path: Path) -> None:
    loaded = load_model(str(save_chat(tmp_path / "model")))
    end, word = loaded.tokenizer.convert_tokens_to_ids(["<|e|>", "a"])
    assert speaks(loaded, end) == []
    assert speaks(loaded, word) == [word] * 5
    loaded.model.save_pretrained(tmp_path / "saved")  # so that it stops there for whoever loads the adapted model
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text(encoding="utf-8"))
    assert saved["eos_token_id"] == [loaded.tokenizer.eos_token_id, end]
