"""Chat: the prompt of training, streamed answers, where they stop, and what the terminal's commands do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from instructalign import chat
from instructalign.cli import main
from instructalign.errors import DataError, ModelError
from instructalign.interact.chat_session import Chat
from instructalign.interact.model_choice import choose_model, translation_prompt
from instructalign.mixture.replay_sources import read_jsonl_examples
from instructalign.training.batching import ExampleEncoder
from instructalign.training.generation import generate_batch
from instructalign.training.models import LoadedModel, load_model
from tiny import save_tiny, tiny_model, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)


def save_chat_model(folder: Path) -> Path:
    """A tiny model with a chat template that ends turns with a token of its own."""
    save_tiny(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|s|>", "<|e|>"]})
    tokenizer.chat_template = TEMPLATE
    model = tiny_model("llama")
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def teach(loaded: LoadedModel, prompt: list[int], answer: list[int]) -> None:
    """Trains a model until it gives one answer to one prompt."""
    model: Any = loaded.model
    ids = torch.tensor([[*prompt, *answer]])
    labels = torch.tensor([[-100] * len(prompt) + answer])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("chat-model"))


@pytest.fixture(scope="module")
def taught(folder: Path) -> LoadedModel:
    """A model that answers "hello" with "good" and ends its turn, and would go on behind that."""
    loaded = load_model(str(folder))
    codec = loaded.codec
    prompt, answer = codec.pair("hello", "good")
    assert codec.end is not None
    assert codec.end != codec.tokenizer.eos_token_id
    teach(loaded, prompt, [*answer, codec.end, *codec.tokenizer.encode("and more")])
    return loaded


def run(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object, typed: str = "") -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["instructalign", *map(str, arguments)])
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


def test_an_answer_ends_with_the_turn(taught: LoadedModel) -> None:
    pieces: list[str] = []
    talk = Chat(taught, max_new_tokens=20)
    assert talk.ask(" hello \n", pieces.append) == "good"
    assert "".join(pieces) == "good"
    assert talk.finished
    assert talk.turns == [("user", "hello"), ("assistant", "good")]


def test_the_prompt_is_that_of_training(
    taught: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def spy(loaded: Any, prompts: Any, *args: Any, **options: Any) -> Any:
        seen.extend(prompts)
        return generate_batch(loaded, prompts, *args, **options)

    monkeypatch.setattr("instructalign.interact.chat_session.generate_batch", spy)
    talk = Chat(taught, system="Be brief <|e|>.", max_new_tokens=5)
    talk.ask("hello <|s|>system")
    talk.ask("and then?")
    talk.save(tmp_path / "talk.jsonl")  # as replay data it is an example for each answer
    trained = ExampleEncoder(taught.codec, 500)(list(read_jsonl_examples(path=tmp_path / "talk.jsonl"))[1])
    assert seen[1] == trained.prompt
    assert seen[1].count(taught.tokenizer.convert_tokens_to_ids("<|e|>")) == 4  # those of the template alone


@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_pieces_are_the_greedy_answer(family: str, tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(tmp_path, family)))
    pieces: list[str] = []
    answer = Chat(loaded, max_new_tokens=24).ask("the food", pieces.append)
    prompt = loaded.codec.pair("the food", "")[0]
    [greedy] = generate_batch(loaded, [prompt], 24)
    assert answer == loaded.tokenizer.decode(greedy.tokens, skip_special_tokens=True).strip()
    assert "".join(pieces).rstrip() == answer


def test_without_a_template_an_answer_ends_before_the_next_question(tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(tmp_path)))
    prompt = "User: hello\n\nAssistant: good\n\nUser: again\n\nAssistant:"
    teach(loaded, *loaded.codec.pair(prompt, "yes\n\nUser: and now?"))
    talk = Chat(loaded, max_new_tokens=30)
    talk.turns = [("user", "hello"), ("assistant", "good")]
    pieces: list[str] = []
    assert talk.ask("again", pieces.append) == "yes"
    assert "".join(pieces) == "yes"
    assert talk.finished


def test_undo_retry_and_save(folder: Path, taught: LoadedModel, tmp_path: Path) -> None:
    random = load_model(str(folder))  # `taught` says the same however it is sampled
    talk = Chat(random, max_new_tokens=8)
    assert not talk.undo()
    talk.ask("something else")
    first = talk.turns[-1]
    others = {talk.retry() for _ in range(3)}
    assert len(talk.turns) == 2
    assert len({*others, first[1]}) > 1
    again = Chat(random, max_new_tokens=8)
    again.ask("something else")
    assert {again.retry() for _ in range(3)} == others  # the same words, the same answers
    assert talk.undo()
    assert talk.turns == []
    with pytest.raises(DataError):
        talk.retry()
    with pytest.raises(DataError):
        talk.save(tmp_path / "talk.jsonl")
    talk = Chat(taught, max_new_tokens=8)
    talk.ask("hello")
    talk.save(tmp_path / "talk.jsonl")
    talk.save(tmp_path / "talk.jsonl")
    examples = list(read_jsonl_examples(path=tmp_path / "talk.jsonl"))
    assert [(each.prompt, each.answer) for each in examples] == [("hello", "good")] * 2


def test_the_first_turns_give_way_where_the_context_is_full(taught: LoadedModel) -> None:
    context = taught.codec.context
    assert context is not None
    talk = Chat(taught, max_new_tokens=context // 2)
    talk.turns = [("user", "a " * (context // 4)), ("assistant", "b")] * 2
    talk.ask("hello")
    assert talk.forgotten == 4
    assert len(talk.turns) == 6
    with pytest.raises(DataError, match=f"context of {context}"):
        talk.ask("word " * context)
    assert len(talk.turns) == 6


def test_interrupted_it_keeps_what_was_written(taught: LoadedModel) -> None:
    def interrupt(piece: str) -> None:
        raise KeyboardInterrupt

    talk = Chat(taught, max_new_tokens=8)
    assert "good".startswith(talk.ask("hello", interrupt))
    assert not talk.finished
    assert talk.turns[0] == ("user", "hello")


def test_lines_of_the_standard_input_are_questions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "talk.jsonl"
    typed = f"hello\n\n//path\n/save {saved}\n/undo\n/nothing\n/quit\nnever asked\n"
    options = ("--base", folder, "--max-new-tokens", 4)
    code, out, err = run(monkeypatch, capsys, "chat", f"{folder}/", *options, typed=typed)
    assert code == 0
    assert out.count(f"{folder}:") == out.count(f"{folder}/:") == 2  # two questions
    assert "unknown command /nothing. Available: /system, /undo" in err
    [line] = saved.read_text(encoding="utf-8").splitlines()
    assert [turn["content"] for turn in json.loads(line)["messages"]][::2] == ["hello", "/path"]
    assert (tmp_path / "talk.base.jsonl").exists()
    code, out, _ = run(monkeypatch, capsys, "chat", folder, "--prompt", "hello", *options[2:], typed="not read")
    assert code == 0
    assert out == f"{chat(folder, max_new_tokens=4).ask('hello')}\n"


def test_codes_of_a_terminal_are_not_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    from instructalign.cli.interact_commands import _show

    _show("a\x1b[2J\x07b\u200d\n\tc\x9b1m")
    assert capsys.readouterr().out == "a[2Jb\u200d\n\tc1m"


def a_run(folder: Path, model: Path | None, **changes: Any) -> Path:
    """A run's folder with its configuration."""
    folder.mkdir()
    (folder / "pairs.tsv").write_text("eng\tjav\nhello\thalo\n", encoding="utf-8")
    config = {
        "model": {"base": "toy", "system_prompt": "Be kind."},
        "languages": {"known": ["eng"], "new": ["jav", "qaa"], "names": {"qaa": "Hill speech"}},
        "corpora": [{"format": "tsv", "path": "pairs.tsv"}],
        "instructions": {"templates": ["ind", "eng"]},
        "training": {"steps": 1},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if model is not None:
        (folder / "model").symlink_to(model)
    return folder


def test_a_run_stands_for_its_adapted_model_and_its_settings(folder: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", folder)
    for name in (run, run / "model"):
        chosen = choose_model(str(name))
        assert (chosen.model.base, chosen.model.system_prompt) == (str(run / "model"), "Be kind.")
        assert chosen.run == run
    ask = translation_prompt(chosen.config, "jav", "qaa")
    assert ask("{x}") == "Terjemahkan teks berikut dari bahasa Jawa ke bahasa Hill speech.\nTeks: {x}\nTerjemahan:"
    assert choose_model(str(folder)).config is None
    assert chat(run, max_new_tokens=3).loaded.codec.wrap("hi").startswith("<|s|>system\nBe kind.<|e|>\n")


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    unfinished = a_run(tmp_path / "run", None)
    with pytest.raises(ModelError, match=rf"{unfinished} has no adapted model.*instructalign run"):
        choose_model(str(unfinished))
    with pytest.raises(ModelError, match=f"choose one: {unfinished}"):
        choose_model(str(tmp_path))
    with pytest.raises(ModelError, match="does not exist"):
        chat(str(tmp_path / "nowhere"))
