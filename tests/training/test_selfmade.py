"""Past data that the base model writes itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from instructalign.config import Config, ModelConfig, ReplayConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError, UnknownNameError
from instructalign.mixture import ReplayBuffer, load_replay
from instructalign.randomness import digest_key
from instructalign.synthesis import self_replay
from instructalign.synthesis.drafting import write_drafts
from instructalign.synthesis.filtering import Draft, judge
from instructalign.synthesis.seed_prompts import load_seeds, shipped
from instructalign.training.generation import Sampling, generate
from instructalign.training.models import LoadedModel, load_model
from tiny import save_tiny


@pytest.fixture(scope="module")
def toy() -> LoadedModel:
    return load_model("toy")


def config(tmp_path: Path, base: str = "toy", size: int = 20, **options: Any) -> Config:
    return build_config(
        {
            "model": {"base": base},
            "languages": {"known": ["qka"], "new": ["qna"], "names": {"qka": "Miza", "qna": "Sinup"}},
            "corpora": [{"format": "toy"}],
            "replay": {
                "source": {"format": "self", "seeds": "toy", "cache": str(tmp_path / "cache"), **options},
                "size": size,
            },
            "training": {"steps": 10},
        },
        folder=tmp_path,
    )


def load(tmp_path: Path, *, seed: int = 1, made: int | None = None, **options: Any) -> ReplayBuffer:
    whole = config(tmp_path, **options)
    return load_replay(whole.replay, seed, whole.model, made=made)


def test_greedy_writing_is_that_of_transformers(toy: LoadedModel) -> None:
    prompts = [toy.codec.pair(text, "")[0] for text in ("Good: atik ovaf posut tori akat atus ?", "Place: hulo =")]
    for prompt, written in zip(prompts, generate(toy, prompts, 8, 4096), strict=True):
        model: Any = toy.model
        ids = torch.tensor([prompt])
        plain = model.generate(ids, max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        assert written.finished
        assert [*written.tokens, toy.tokenizer.eos_token_id] == plain
        whole = torch.tensor([[*prompt, *plain]])
        with torch.no_grad():
            scores = torch.log_softmax(model(whole).logits[0], dim=-1)
        likelihoods = [scores[len(prompt) - 1 + i, token].item() for i, token in enumerate(plain)]
        assert written.likelihood == pytest.approx(sum(likelihoods) / len(plain), abs=1e-4)


def test_draws_follow_the_models_distribution(toy: LoadedModel) -> None:
    prompt = toy.codec.pair("Good:", "")[0]
    sampling = Sampling(digest_key(3, "test"), temperature=1.3, top_k=5)
    count = 2000
    written = generate(toy, [prompt] * count, 1, 1 << 20, sampling=sampling, streams=range(count))
    drawn = Counter(each.tokens[0] for each in written)
    with torch.no_grad():
        logits = toy.model(torch.tensor([prompt])).logits[0, -1]  # type: ignore[operator]
    top = logits.topk(5)
    expected = torch.softmax(top.values / 1.3, dim=-1)
    for token, share in zip(top.indices.tolist(), expected.tolist(), strict=True):
        # Five standard deviations of a binomial count.
        assert abs(drawn[token] - count * share) < 5 * (count * share * (1 - share)) ** 0.5
    assert set(drawn) <= set(top.indices.tolist())


def test_a_draw_does_not_depend_on_what_stands_beside_it(toy: LoadedModel) -> None:
    prompts = [toy.codec.pair(text, "")[0] for text in ("Good:", "Into Miza:", "Place:", "Good: atik")]
    sampling = Sampling(digest_key(3, "test"))
    together = generate(toy, prompts, 16, 4096, sampling=sampling, streams=[5, 6, 7, 8])
    alone = [
        generate(toy, [prompt], 16, 4096, sampling=sampling, streams=[number])[0]
        for prompt, number in zip(prompts, (5, 6, 7, 8), strict=True)
    ]
    assert [each.tokens for each in together] == [each.tokens for each in alone]


def test_the_toy_base_writes_what_it_was_taught(tmp_path: Path) -> None:
    buffer = load(tmp_path, size=100)
    assert len(buffer) == 100
    assert {each.objective for each in buffer.examples} == {"replay"}
    answers = {each.answer for each in buffer.examples if each.prompt.startswith("Good:")}
    places = {each.answer for each in buffer.examples if each.prompt.startswith("Place:")}
    assert answers == {"yes", "no", "maybe"}
    assert places == {"sea", "farm", "town", "home"}
    assert all(each.prompt.endswith((" ?", " =")) for each in buffer.examples)
    assert len({each.prompt for each in buffer.examples}) == 100


def test_written_once_resumed_and_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = load(tmp_path, size=100)
    files = sorted((tmp_path / "cache").rglob("*.jsonl"))
    assert len(files) == 2
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    assert load(tmp_path, size=100).examples == buffer.examples
    assert [file.read_bytes() for file in files] == before
    monkeypatch.setattr("instructalign.training.models.load_configured", None)  # what is there needs no model
    few = load(tmp_path, size=40)
    assert set(few.examples) <= set(buffer.examples)
    assert len(load(tmp_path, size=100, made=30)) == 30
    with pytest.raises(TypeError):
        load(tmp_path, size=100, temperature=0.8)  # another manner, so it would have to write


def test_unwanted_examples_are_counted_by_reason(tmp_path: Path) -> None:
    buffer = load(tmp_path, size=30, instruction_tokens=12, likelihood=-0.02)
    dropped = buffer.counts.dropped
    assert dropped["instruction without its end"] > 0
    assert dropped["answer unlikely"] > 0
    assert buffer.counts.read == len(buffer) + sum(dropped.values())


def test_judgement_of_single_examples() -> None:
    def draft(attempt: int, prompt: str, answer: str, likelihood: float = -0.1) -> Draft:
        return Draft(attempt, "s", prompt, prompt, answer, likelihood)

    drafts = [
        draft(0, "What is the capital of France?", "Paris"),
        draft(1, "What is the capital of France ?", "Paris."),
        draft(2, "Name", "x"),
        draft(3, "Name three large rivers.", ""),
        draft(4, "Name three large rivers.", "the Nile and " * 20),
        draft(5, "Repeat what I have said to you now.", "Repeat what I have said to you now"),
        draft(6, "Name three small rivers in Spain.", "Ebro", -5.0),
        Draft(7, "s", "Name", "", "", 0.0, "instruction unfinished"),
        draft(8, "Name three large rivers.", "the Nile, the Amazon and the Congo"),
    ]
    reasons = [flaw for _, flaw in judge(drafts, likelihood=-2.0, words=3)]
    assert reasons == [
        "",
        "near-duplicate",
        "instruction too short",
        "answer empty",
        "repeats itself",
        "answer copies the instruction",
        "answer unlikely",
        "instruction unfinished",
        "",
    ]
    for count in range(len(drafts)):
        assert [flaw for _, flaw in judge(drafts[:count], -2.0, 3)] == reasons[:count]


def test_answers_to_the_users_own_instructions(tmp_path: Path) -> None:
    prompts = ["Good: tala sabo lihi vofa lihi afiz ?", "Place: lohul izoz otul susub zabu itif ="]
    lines = "".join(json.dumps({"inputs": prompt}) + "\n" for prompt in prompts)
    (tmp_path / "own.jsonl").write_text(lines, encoding="utf-8")
    buffer = load(tmp_path, method="answer", path="own.jsonl", size=10)
    assert {each.prompt: each.answer for each in buffer.examples} == {prompts[0]: "maybe", prompts[1]: "farm"}


@pytest.mark.parametrize("family", ["llama", "mt5"])
@pytest.mark.parametrize("method", ["complete", "imitate"])
def test_every_kind_of_model_can_be_asked(family: str, method: Any, tmp_path: Path) -> None:
    # A random model writes noise; what matters is that it is asked, and that all of it is accounted for.
    save_tiny(tmp_path / "base", family)
    (tmp_path / "own.jsonl").write_text('{"inputs": "Say this"}\n{"inputs": "Say that"}\n', encoding="utf-8")
    path = {"path": "own.jsonl"} if method == "imitate" else {}
    options = {"method": method, "seeds": "eng", "tries": 1, "instruction_tokens": 8, "answer_tokens": 4, **path}
    with pytest.raises(DataError, match=r"the replay source self .* holds no usable example; dropped: \{'"):
        load(tmp_path, base="base", size=4, **options)
    [file] = (tmp_path / "cache").rglob("*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 4


def test_a_chat_model_writes_the_users_turn(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    loaded = load_model(str(tmp_path / "base"))
    loaded.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    chat = load_model(str(tmp_path / "base"))
    assert chat.codec.chat
    seeds = load_seeds("eng")
    manner = self_replay.Manner("complete", seeds, (), 4, 1.0, 50, 8, 4, 1)
    drafts = write_drafts(chat, manner, range(4))
    begins = {seed.begin for seed in seeds.seeds}
    assert all(draft.seed in begins and draft.prompt.startswith(draft.seed) for draft in drafts)
    assert all(draft.added and draft.prompt.endswith(draft.added) for draft in drafts if not draft.flaw)


@pytest.mark.parametrize("name", shipped())
def test_shipped_beginnings_are_whole(name: str) -> None:
    seeds = load_seeds(name)
    assert "{seed}" in seeds.complete
    assert "{examples}" in seeds.imitate
    assert len({seed.begin for seed in seeds.seeds}) == len(seeds.seeds)


def test_what_cannot_be_done_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown set of seeds 'english'"):
        load(tmp_path, seeds="english")
    with pytest.raises(ConfigError, match=r"replay\.source\.method answer needs replay\.source\.path"):
        load(tmp_path, method="answer")
    (tmp_path / "own.yaml").write_text("seeds: [{begin: Say, ends: x}]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.yaml is no set of seeds: .*seeds\.0\.ends: unknown key"):
        load(tmp_path, path="own.yaml")
    (tmp_path / "own.jsonl").write_text('{"text": "Say"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.jsonl:1: no text under 'inputs', found nothing"):
        load(tmp_path, method="answer", path="own.jsonl")
    with pytest.raises(DataError, match="needs a model"):
        load_replay(config(tmp_path).replay, 1)
    with pytest.raises(ConfigError, match=r"replay\.source\.temperature: .*greater than 0"):
        config(tmp_path, temperature=0)
    assert isinstance(config(tmp_path).replay, ReplayConfig)
    assert config(tmp_path).model == ModelConfig(base="toy")


@pytest.mark.slow
def test_replay_that_the_toy_base_wrote_keeps_what_it_knew(tmp_path: Path) -> None:
    """The demo's recipe, shortened: without past data the first languages are lost, with the model's own not."""
    from instructalign import run
    from instructalign.config_file import load_config
    from instructalign.toy.demo import CONFIG

    own = f"replay.source={{format: self, seeds: toy, cache: {tmp_path / 'cache'}}}"
    kept = {}
    for name, changes in {"none": ["replay.size=0"], "self": [own, "replay.size=500"]}.items():
        changed = load_config(CONFIG, [*changes, "training.steps=100", "training.warmup=10"])
        run(changed, tmp_path / name)
        scored = json.loads((tmp_path / name / "evaluation/adapted/scores.json").read_text(encoding="utf-8"))
        [kept[name]] = [
            score["value"]
            for score in scored["scores"]
            if [score[key] for key in ("run", "group", "metric", "language")] == [name, "L1", "f1_weighted", ""]
        ]
    assert kept["self"] > kept["none"] + 0.1
    assert kept["self"] > 0.9
