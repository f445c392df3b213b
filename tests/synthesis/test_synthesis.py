"""Replay data that the base model synthesises: sampling, candidates, filters, the source `self`, the command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from instructalign.cli import app
from instructalign.config import Config, ModelConfig, ReplayConfig
from instructalign.config_file import build_config, load_config
from instructalign.errors import ConfigError, DataError, InstructAlignError, UnknownNameError
from instructalign.mixture import ReplayBuffer, load_replay
from instructalign.randomness import digest_key
from instructalign.synthesis import self_replay, synthesize
from instructalign.synthesis.candidates import Candidate, SamplingConfig, filter_candidates, write_candidates
from instructalign.synthesis.seed_prompts import load_seed_prompts, shipped_seed_prompts
from instructalign.training.generation import Sampling, generate
from instructalign.training.models import LoadedModel, load_model, model_hash
from processes import exit_code, start
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


def test_greedy_decoding_is_that_of_transformers(toy: LoadedModel) -> None:
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


@pytest.mark.parametrize("top_k", [5, None])
def test_sampling_follows_the_models_distribution(top_k: int | None, toy: LoadedModel) -> None:
    prompt = toy.codec.pair("Good:", "")[0]
    sampling = Sampling(digest_key(3, "test"), temperature=1.3, top_k=top_k)
    count = 2000
    written = generate(toy, [prompt] * count, 1, 1 << 20, sampling=sampling, streams=range(count))
    drawn = Counter(each.tokens[0] for each in written)
    with torch.no_grad():
        logits = toy.model(torch.tensor([prompt])).logits[0, -1]  # type: ignore[operator]
    top = logits.topk(top_k or len(logits))
    expected = torch.softmax(top.values / 1.3, dim=-1)
    for token, share in zip(top.indices.tolist(), expected.tolist(), strict=True):
        # Five standard deviations of a binomial count; of tokens that are hardly drawn, five.
        assert abs(drawn[token] - count * share) < 5 * max(1, count * share * (1 - share)) ** 0.5
    assert set(drawn) <= set(top.indices.tolist())


def test_sampling_does_not_depend_on_the_batch(toy: LoadedModel) -> None:
    prompts = [toy.codec.pair(text, "")[0] for text in ("Good:", "Into Miza:", "Place:", "Good: atik")]
    sampling = Sampling(digest_key(3, "test"))
    together = generate(toy, prompts, 16, 4096, sampling=sampling, streams=[5, 6, 7, 8])
    alone = [
        generate(toy, [prompt], 16, 4096, sampling=sampling, streams=[number])[0]
        for prompt, number in zip(prompts, (5, 6, 7, 8), strict=True)
    ]
    assert [each.tokens for each in together] == [each.tokens for each in alone]


def test_the_toy_base_writes_what_it_was_trained_on(tmp_path: Path) -> None:
    buffer = load(tmp_path, size=100)
    assert len(buffer) == 100
    assert {each.objective for each in buffer.examples} == {"replay"}
    answers = {each.answer for each in buffer.examples if each.prompt.startswith("Good:")}
    places = {each.answer for each in buffer.examples if each.prompt.startswith("Place:")}
    assert answers == {"yes", "no", "maybe"}
    assert places == {"sea", "farm", "town", "home"}
    assert all(each.prompt.endswith((" ?", " =")) for each in buffer.examples)
    assert len({each.prompt for each in buffer.examples}) == 100


def test_candidates_are_cached_resumed_and_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = load(tmp_path, size=100)
    files = sorted((tmp_path / "cache").rglob("*.jsonl"))
    assert len(files) == 2
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    assert load(tmp_path, size=100).examples == buffer.examples
    assert [file.read_bytes() for file in files] == before
    monkeypatch.setattr("instructalign.training.models.load_model", None)  # cached ones need no model
    few = load(tmp_path, size=40)
    assert set(few.examples) <= set(buffer.examples)
    assert len(load(tmp_path, size=100, made=30)) == 30
    with pytest.raises(TypeError):
        load(tmp_path, size=100, temperature=0.8)  # other settings, so the model is needed


def load_telling(path: str, out: str) -> None:
    """Run in a process of its own: writes down which candidates it made, and the examples."""
    made = []
    write = self_replay.write_candidates
    self_replay.write_candidates = lambda *given: (made.append(given[2][0]), write(*given))[1]
    whole = load_config(path)
    buffer = load_replay(whole.replay, 1, whole.model)
    Path(out).write_text(json.dumps([made, [each.prompt for each in buffer.examples]]), encoding="utf-8")


def test_one_process_writes_while_the_others_wait(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config(tmp_path, size=100).to_yaml(), encoding="utf-8")
    told = [tmp_path / name for name in ("one.json", "other.json")]
    both = [start(load_telling, tmp_path / "config.yaml", out) for out in told]
    assert [exit_code(process, 240) for process in both] == [0, 0]
    one, other = (json.loads(out.read_text(encoding="utf-8")) for out in told)
    assert sorted(one[0] + other[0]) == [0, 64]
    assert one[1] == other[1]
    assert len(one[1]) == 100


def test_unusable_candidates_are_counted_by_reason(tmp_path: Path) -> None:
    buffer = load(tmp_path, size=30, instruction_tokens=12, likelihood=-0.02)
    dropped = buffer.counts.dropped
    assert dropped["instruction without its end"] > 0
    assert dropped["answer unlikely"] > 0
    assert buffer.counts.read == len(buffer) + sum(dropped.values())


def test_filters_on_single_candidates() -> None:
    def candidate(attempt: int, prompt: str, answer: str, likelihood: float = -0.1) -> Candidate:
        return Candidate(attempt, "s", prompt, prompt, answer, likelihood)

    candidates = [
        candidate(0, "What is the capital of France?", "Paris"),
        candidate(1, "What is the capital of France ?", "Paris."),
        candidate(2, "Name", "x"),
        candidate(3, "Name three large rivers.", ""),
        candidate(4, "Name three large rivers.", "the Nile and " * 20),
        candidate(5, "Repeat what I have said to you now.", "Repeat what I have said to you now"),
        candidate(6, "Name three small rivers in Spain.", "Ebro", -5.0),
        Candidate(7, "s", "Name", "", defect="instruction unfinished"),
        candidate(8, "Name three large rivers.", "the Nile, the Amazon and the Congo"),
    ]
    reasons = [defect for _, defect in filter_candidates(candidates, likelihood=-2.0, words=3)]
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
    for count in range(len(candidates)):
        assert [defect for _, defect in filter_candidates(candidates[:count], -2.0, 3)] == reasons[:count]


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
    with pytest.raises(DataError, match=r"source self .*dropped: \{'"):
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
    seeds = load_seed_prompts("eng")
    sampling = SamplingConfig("complete", seeds, (), 4, 1.0, 50, 8, 4, 1)
    candidates = write_candidates(chat, sampling, range(4))
    begins = {seed.begin for seed in seeds.seeds}
    assert all(each.seed in begins and each.prompt.startswith(each.seed) for each in candidates)
    assert all(each.added and each.prompt.endswith(each.added) for each in candidates if not each.defect)


@pytest.mark.parametrize("name", shipped_seed_prompts())
def test_shipped_seed_prompts_are_complete(name: str) -> None:
    seeds = load_seed_prompts(name)
    assert "{seed}" in seeds.complete
    assert "{examples}" in seeds.imitate
    assert len({seed.begin for seed in seeds.seeds}) == len(seeds.seeds)


def test_what_cannot_be_done_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'english'"):
        load(tmp_path, seeds="english")
    with pytest.raises(ConfigError, match=r"replay\.source\.method answer .*replay\.source\.path"):
        load(tmp_path, method="answer")
    (tmp_path / "own.yaml").write_text("seeds: [{begin: Say, ends: x}]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.yaml .*seeds\.0\.ends: unknown key"):
        load(tmp_path, path="own.yaml")
    (tmp_path / "own.jsonl").write_text('{"text": "Say"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.jsonl:1: .*'inputs'"):
        load(tmp_path, method="answer", path="own.jsonl")
    with pytest.raises(DataError, match="source self needs a model"):
        load_replay(config(tmp_path).replay, 1)
    with pytest.raises(ConfigError, match=r"replay\.source\.temperature: .*greater than 0"):
        config(tmp_path, temperature=0)
    assert isinstance(config(tmp_path).replay, ReplayConfig)
    assert config(tmp_path).model == ModelConfig(base="toy")


def test_the_command_writes_what_the_source_replays(tmp_path: Path) -> None:
    whole = config(tmp_path, size=30)
    (tmp_path / "config.yaml").write_text(whole.to_yaml(), encoding="utf-8")
    out = tmp_path / "replay.jsonl"
    arguments = ["synthesize", str(tmp_path / "config.yaml"), "--out", str(out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "wrote 30 examples" in done.output
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    origin = records[0]["origin"]
    assert (origin["model"], origin["model_hash"]) == ("toy", model_hash("toy"))
    assert (origin["method"], origin["seeds"], origin["temperature"]) == ("complete", "toy", 1.0)
    assert len({record["origin"]["attempt"] for record in records}) == 30
    source = build_config(
        {
            **yaml.safe_load(whole.to_yaml()),
            "replay": {"source": {"format": "jsonl", "path": str(out)}, "size": 30},
        }
    )
    read = load_replay(source.replay, whole.seed)
    own = load_replay(whole.replay, whole.seed, whole.model)
    fields = ("prompt", "answer", "target", "template")
    assert {tuple(getattr(each, name) for name in fields) for each in read.examples} == {
        tuple(getattr(each, name) for name in fields) for each in own.examples
    }
    with pytest.raises(InstructAlignError, match=r"replay\.jsonl already exists"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    counts = synthesize(whole, tmp_path / "few.jsonl", count=5)
    assert counts.kept == 5
    assert counts.read == 5 + sum(counts.dropped.values())
    assert (tmp_path / "few.jsonl").read_text() == "".join(out.read_text().splitlines(keepends=True)[:5])


@pytest.mark.slow
def test_replay_that_the_toy_base_wrote_keeps_what_it_knew(tmp_path: Path) -> None:
    """The demo's recipe, shortened: without replay the known languages are forgotten, with the model's own not."""
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
