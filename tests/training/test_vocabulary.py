"""New pieces: what keeps its tokens, what a new script gains, what rows begin with, and runs that train them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.scripts import javanese, pairs, save_shape
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, BertTokenizerFast

from instructalign.config import Config, InstructionDataConfig
from instructalign.config_file import build_config
from instructalign.doctor.check_tokenizer import examine_extension
from instructalign.errors import ConfigError, ModelError, RunFolderError
from instructalign.mixture.training_data import TrainingData, prepare_data
from instructalign.plugins import OBJECTIVES, EntriesByName
from instructalign.run_folder import read_run_metadata
from instructalign.training import new_rows, vocabulary
from instructalign.training.models import LoadedModel, load_model
from instructalign.training.new_rows import EXTENDED, extend_rows
from instructalign.training.preview import preview
from instructalign.training.train import train
from instructalign.training.vocabulary import Extension, extend_tokenizer, merge_pairs

SHAPES = ("bloom", "llama", "mt5")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for shape in SHAPES:
        save_shape(folder / shape, shape)
    lines = [f"{known}\t{new}" for known, new in pairs()]
    (folder / "corpus.tsv").write_text("\n".join(["eng\tjav", *lines]), encoding="utf-8")
    return folder


def configured(folder: Path, shape: str, **more: Any) -> Config:
    vocabulary = {"add": 2000, "from": "corpora", **more.pop("vocabulary", {})}
    return build_config(
        {
            "model": {"base": str(folder / shape), "vocabulary": vocabulary, **more.pop("model", {})},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
            "instructions": {"objectives": {"mt": 1}, "heldout": 100},
            "training": {
                **{"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "max_length": 192, "report_to": []},
                **more.pop("training", {}),
            },
        },
        folder=folder,
    )


def extended(config: Config) -> tuple[TrainingData, LoadedModel, Extension]:
    data, loaded = prepare_data(config), load_model(config.model, trainable=True)
    return (
        data,
        loaded,
        extend_tokenizer(loaded.tokenizer, config, data.corpus, data.heldout, data.replay, data.taught),
    )


def test_the_pieces_of_a_unigram_model_are_the_same_each_time(bases: Path) -> None:
    once, again = (extended(configured(bases, "mt5"))[2].tokenizer.backend_tokenizer.to_str() for _ in range(2))
    assert once == again


def nats_per_byte(loaded: LoadedModel, tokenizer: Any, texts: list[str]) -> float:
    """Of texts, by transformers' own loss, without an end token."""
    total, model = 0.0, loaded.model
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            given = {"input_ids": ids} if not loaded.encoder_decoder else {"input_ids": torch.tensor([[3]])}
            result = model(**given, labels=ids)
        assert torch.isfinite(result.logits).all()
        total += float(result.loss) * (ids.shape[1] - (0 if loaded.encoder_decoder else 1))
    return total / sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_script(bases: Path, shape: str) -> None:
    config = configured(bases, shape)
    data, loaded, extension = extended(config)
    old, new = loaded.tokenizer, extension.tokenizer
    heldout = [row.texts for row in data.heldout]
    counts = [sum(len(t.encode(texts["jav"], add_special_tokens=False)) for texts in heldout) for t in (old, new)]
    assert counts[1] <= counts[0] / 2
    for texts in heldout:
        ids = new.encode(texts["jav"], add_special_tokens=False)
        assert new.decode(ids) == texts["jav"]
        assert new.encode(texts["eng"]) == old.encode(texts["eng"])  # not seen in training either
    protected = extension.record["protected"]
    assert protected["texts"] == protected["unchanged"] > 2000
    assert list(extension.ids) == [new.convert_tokens_to_ids(new.convert_ids_to_tokens(n)) for n in extension.ids]
    before = nats_per_byte(loaded, old, [texts["jav"] for texts in heldout[:20]])
    rows = loaded.model.get_input_embeddings().weight.detach().clone()
    sizes, begun = extend_rows(loaded, extension, config.model.vocabulary, config, data)  # type: ignore[arg-type]
    assert begun == {"mean": len(extension.parts)}
    assert nats_per_byte(loaded, new, [texts["jav"] for texts in heldout[:20]]) <= 1.1 * before
    ends = [loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()]
    assert (ends[0].weight is ends[1].weight) == (shape == "bloom")
    assert sizes["after"] == ends[0].weight.shape[0] == ends[1].weight.shape[0] >= extension.ids.stop
    assert sizes["after"] % 8 == 0
    torch.testing.assert_close(ends[0].weight[: extension.first], rows[: extension.first])
    for number in (0, len(extension.parts) - 1):
        for end in ends:
            mean = torch.stack([end.weight[part] for part in extension.parts[number]]).mean(0)
            torch.testing.assert_close(end.weight[extension.first + number], mean)
        spelled = new.decode([extension.first + number])
        assert old.decode(list(extension.parts[number])) == spelled


LATIN = st.text(st.characters(max_codepoint=0x24F, exclude_categories=("Cs",)), max_size=40)


@pytest.mark.parametrize("shape", SHAPES)
def test_text_without_a_new_piece_keeps_its_tokens(bases: Path, shape: str) -> None:
    _, loaded, extension = extended(configured(bases, shape))
    old, new = loaded.tokenizer, extension.tokenizer

    @settings(max_examples=100, deadline=None)
    @given(LATIN, st.text(max_size=20))
    def check(latin: str, text: str) -> None:
        assert new.encode(latin) == old.encode(latin)  # no piece has a letter of its script
        ids = new.encode(text)
        if not any(token in extension.ids for token in ids):
            assert ids == old.encode(text)
        parts = [
            part
            for token in ids
            for part in (extension.parts[token - extension.first] if token in extension.ids else [token])
        ]
        if shape != "mt5":  # every new token stands for old ones that stood there
            assert parts == old.encode(text)

    check()


@pytest.mark.parametrize("shape", SHAPES)
def test_latin_text_of_known_languages_is_protected(bases: Path, shape: str, tmp_path: Path) -> None:
    lines = [f"{known}\t{known[::-1]} qaxe qixawe" for known, _ in pairs()]
    (tmp_path / "corpus.tsv").write_text("\n".join(["eng\tjav", *lines]), encoding="utf-8")
    (tmp_path / shape).symlink_to(bases / shape)
    data, loaded, extension = extended(configured(tmp_path, shape, vocabulary={"add": 200}))
    known = [row.texts["eng"] for row in data.corpus]
    assert [extension.tokenizer.encode(text) for text in known] == [
        loaded.tokenizer.encode(text) for text in known
    ]
    free = extended(configured(tmp_path, shape, vocabulary={"add": 200, "protect": False}))[2]
    assert any(free.tokenizer.encode(text) != loaded.tokenizer.encode(text) for text in known)
    assert free.record["languages"]["jav"]["after"] < extension.record["languages"]["jav"]["after"]


def test_instruction_data_in_known_languages_is_protected(bases: Path, tmp_path: Path) -> None:
    """New text is made of words that occur in instruction data alone, where both languages have some."""
    words = [f"qaxe{n} qixawe" for n in range(40)]
    lines = [f"{known}\t{known[::-1]} {words[n % 40]}" for n, (known, _) in enumerate(pairs())]
    (tmp_path / "corpus.tsv").write_text("\n".join(["eng\tjav", *lines]), encoding="utf-8")
    (tmp_path / "bloom").symlink_to(bases / "bloom")
    asked = [{"inputs": f"{word} ?", "targets": f"{word} ."} for word in words]
    for code in ("eng", "jav"):
        (tmp_path / f"{code}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked))

    def changed(code: str) -> list[bool]:
        config = configured(tmp_path, "bloom", vocabulary={"add": 200})
        sources = {code: {"format": "jsonl", "path": str(tmp_path / f"{code}.jsonl")}}
        block = InstructionDataConfig.model_validate({"sources": sources, "size": 40})
        data, loaded, extension = extended(config.model_copy(update={"instruction_data": block}))
        texts = [text for each in data.taught.examples for text in (each.prompt, each.answer)]
        assert len(texts) == 80
        return [extension.tokenizer.encode(text) != loaded.tokenizer.encode(text) for text in texts]

    assert not any(changed("eng"))  # a known language
    assert all(changed("jav"))


def test_merges_are_those_of_a_naive_trainer() -> None:
    names = {0: "a", 1: "b", 2: "c", 3: "ab"}
    chunks = Counter({(0, 1, 2, 0, 1, 2): 3, (2, 2, 2): 2, (1, 2): 1, (0, 1): 9})
    merged = merge_pairs(chunks, dict(names), {(2, 2)}, 10, 4)
    sequences, naive, texts = dict(chunks), list[tuple[int, int]](), dict(names)
    while True:
        counts: Counter[tuple[int, int]] = Counter()
        for chunk, times in sequences.items():
            for pair in pairwise(chunk):
                counts[pair] += times
        allowed = [p for p in counts if p != (2, 2) and texts[p[0]] + texts[p[1]] not in texts.values()]
        best = min((p for p in allowed if counts[p] >= 2), key=lambda p: (-counts[p], p), default=None)
        if best is None:
            break
        token = 4 + len(naive)
        naive.append(best)
        texts[token] = texts[best[0]] + texts[best[1]]
        changed = Counter[tuple[int, ...]]()
        for chunk, times in sequences.items():
            after, at = [], 0
            while at < len(chunk):
                here = chunk[at : at + 2] == best
                after.append(token if here else chunk[at])
                at += 2 if here else 1
            changed[tuple(after)] += times
        sequences = dict(changed)
    assert merged == naive
    assert (0, 1) not in merged  # it would make an old token


@pytest.mark.parametrize("init", ["align", "omp"])
def test_rows_of_translations(bases: Path, init: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    words = ["bola", "dimu", "felo", "gitu", "lamo", "menu", "nosa", "pira"]
    rows = [[words[n] for n in torch.randint(0, 8, (5,), generator=draw).tolist()] for _ in range(300)]
    lines = [f"{' '.join(row)}\t{' '.join(javanese(word) for word in row)}" for row in rows]
    (tmp_path / "corpus.tsv").write_text("\n".join(["eng\tjav", *lines]), encoding="utf-8")
    (tmp_path / "llama").symlink_to(bases / "llama")
    config = configured(tmp_path, "llama", vocabulary={"init": init})
    data, loaded, extension = extended(config)
    _, begun = extend_rows(loaded, extension, config.model.vocabulary, config, data)  # type: ignore[arg-type]
    assert begun[init] > 0
    weight = loaded.model.get_input_embeddings().weight.detach()
    nearest = 0
    for word in words:
        [*ids] = extension.tokenizer.encode(f" {javanese(word)}", add_special_tokens=False)
        theirs = [
            torch.stack([weight[t] for t in loaded.tokenizer.encode(f" {w}", add_special_tokens=False)]).mean(0)
            for w in words
        ]
        row = torch.stack([weight[token] for token in ids]).mean(0)
        scores = [float(torch.cosine_similarity(row, other, dim=0)) for other in theirs]
        nearest += scores.index(max(scores)) == words.index(word)
    assert nearest >= 6  # of 8; by chance 1


def states(folder: Path) -> dict[str, torch.Tensor]:
    factory: Any = AutoModelForSeq2SeqLM if "mt5" in str(folder) else AutoModelForCausalLM
    return {name: value.clone() for name, value in factory.from_pretrained(folder).state_dict().items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_trains_new_rows_first_resumes_and_loads_by_transformers_alone(
    bases: Path, shape: str, tmp_path: Path
) -> None:
    first = {"train_new_rows_first": 2, "add": 300}
    config = configured(bases, shape, vocabulary=first, training={"checkpoint_every": 2})
    result = train(config, tmp_path / f"{shape}-whole")
    assert result.finished
    record = read_run_metadata(tmp_path / f"{shape}-whole")["vocabulary"]
    start, stop = record["ids"]
    assert stop - start == record["added"] > 200
    assert record["languages"]["jav"]["after"] < record["languages"]["jav"]["before"]
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    assert any(start <= token < stop for token in tokenizer.encode(javanese("hana caraka")))
    whole = states(result.model)

    decaying = {"steps": 2, "scheduler": "constant", "weight_decay": 0.5, "strategy": {"ema": {"decay": 0.5}}}
    short = configured(bases, shape, vocabulary=first, training=decaying)
    only = states(train(short, tmp_path / f"{shape}-short").model)
    base = load_model(str(bases / shape)).model.state_dict()
    for name, weight in only.items():
        if name in base and weight.shape == base[name].shape:
            assert torch.equal(weight, base[name]), name  # all else is as it was
        elif name in base:
            assert torch.equal(weight[:start], base[name][:start]), name
            assert weight[start:stop].std() > 0
    resumed = configured(bases, shape, vocabulary=first, training={"checkpoint_every": 2})
    folder = tmp_path / f"{shape}-resumed"
    _interrupt(resumed, folder)
    again = states(train(resumed, folder).model)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("adapter", [None, {"type": "lora", "r": 2}], ids=["full", "lora"])
def test_a_prolonged_run_has_the_pieces_that_its_checkpoints_were_trained_with(
    bases: Path, adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(steps: int) -> Config:
        training = {"steps": steps, "scheduler": "constant"}
        return configured(bases, "bloom", vocabulary={"add": 50}, model={"adapter": adapter}, training=training)

    whole = states(train(of(4), tmp_path / "whole").model)
    train(of(2), tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(new_rows, "extend_tokenizer", lambda *_: pytest.fail("learned again"))
        longer = states(train(of(4), tmp_path / "run").model)
    assert all(torch.equal(whole[name], longer[name]) for name in whole)

    shutil.rmtree(tmp_path / "run" / EXTENDED)
    train(of(5), tmp_path / "run")  # made again, the same
    shutil.rmtree(tmp_path / "run" / EXTENDED)
    monkeypatch.setattr(vocabulary, "merge_pairs", lambda *args: merge_pairs(*args)[:-1])  # as a later version may
    with pytest.raises(RunFolderError, match=r"checkpoint-5: .*extended"):
        train(of(6), tmp_path / "run")


def _interrupt(config: Config, folder: Path) -> None:
    """A run that was killed after its first checkpoint."""
    from instructalign.training.trainer import AlignTrainer

    class Killed(Exception):
        pass

    save = AlignTrainer._save_checkpoint

    def killed(self: Any, model: Any, trial: Any) -> None:
        save(self, model, trial)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AlignTrainer, "_save_checkpoint", killed)
        with pytest.raises(Killed):
            train(config, folder)
    assert (folder / EXTENDED / "config.json").exists()


@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")  # they never were
@pytest.mark.parametrize(("shape", "merge"), [("bloom", True), ("bloom", False), ("llama", False), ("mt5", True)])
def test_lora_trains_the_new_rows(bases: Path, shape: str, merge: bool, tmp_path: Path) -> None:
    adapter = {"type": "lora", "r": 2, "merge": merge}
    config = configured(bases, shape, vocabulary={"add": 100}, model={"adapter": adapter})
    result = train(config, tmp_path / shape)
    start, stop = read_run_metadata(tmp_path / shape)["vocabulary"]["ids"]
    factory: Any = AutoModelForSeq2SeqLM if shape == "mt5" else AutoModelForCausalLM
    model = factory.from_pretrained(result.model)
    _, loaded, extension = extended(config)
    data = prepare_data(config)
    extend_rows(loaded, extension, config.model.vocabulary, config, data)  # type: ignore[arg-type]
    begun = loaded.model.get_input_embeddings().weight
    wrapper = model.get_input_embeddings()
    trained = wrapper(torch.arange(begun.shape[0])) if not merge else wrapper.weight
    changed = (trained - begun).abs().amax(1) > 0
    assert changed[start:stop].any()
    assert not changed[:start].any()


def test_a_token_without_a_row_begins_with_the_mean(bases: Path) -> None:
    data, loaded, extension = extended(configured(bases, "llama"))
    config = configured(bases, "llama")
    rows = extension.first - 2  # as where a tokenizer's class adds special tokens that the model does not have
    loaded.model.resize_token_embeddings(rows, mean_resizing=False)
    assert config.model.vocabulary is not None
    extend_rows(loaded, extension, config.model.vocabulary, config, data)
    table = loaded.model.get_input_embeddings().weight
    assert torch.allclose(table[rows : extension.first], table[:rows].mean(0).expand(2, -1), atol=1e-6)


def test_plain_text_needs_no_template_of_ours(bases: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "language: eng\nsource: ours\nlicence: CC0-1.0\n"
        'templates:\n  mt:\n    - {id: mt-1, prompt: "{source}: {text}\\n{target}:"}\n'
    )
    config = configured(bases, "bloom")
    data, loaded, _ = extended(config)
    objectives = EntriesByName(OBJECTIVES).read({"mt": 1, "lm": {"form": "plain"}})
    changes = {"templates": [str(tmp_path / "own.yaml")], "objectives": objectives}
    own = config.model_copy(update={"instructions": config.instructions.model_copy(update=changes)})
    assert extend_tokenizer(loaded.tokenizer, own, data.corpus, data.heldout, data.replay, data.taught).parts


def test_what_cannot_be(bases: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train_new_rows_first"):
        configured(bases, "bloom", vocabulary={"train_new_rows_first": 5})
    with pytest.raises(ConfigError, match=r"model\.vocabulary\.from"):
        configured(bases, "bloom", vocabulary={"from": "replay"})
    with pytest.raises(ConfigError, match=r"model\.vocabulary\.fron.*add, from, init"):
        configured(bases, "bloom", vocabulary={"fron": "corpora"})
    config = configured(bases, "bloom")
    data = prepare_data(config)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    bert: Any = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    with pytest.raises(ModelError, match="WordPiece"):
        extend_tokenizer(bert, config, data.corpus, data.heldout, data.replay, data.taught)


def test_preview_doctor_and_configuration_know_it(bases: Path) -> None:
    config = configured(bases, "bloom")
    assert json.loads(json.dumps(config.to_yaml())).count("from: corpora") == 1
    data = prepare_data(config)
    few = preview(config, data, 4)
    many = preview(
        config.model_copy(update={"model": config.model.model_copy(update={"vocabulary": None})}), data, 4
    )
    assert sum(each.prompt_tokens + each.answer_tokens for each in few) < sum(
        each.prompt_tokens + each.answer_tokens for each in many
    )
    extension = extended(config)[2]
    often = Extension(
        extension.tokenizer, extension.first, extension.parts, {**extension.record, "median_occurrences": 10}
    )
    assert [finding.level for finding in examine_extension(often, ["jav"])] == ["ok"]
    useless = {"jav": {"before": 2.0, "after": 1.9}}
    record = {**extension.record, "languages": useless, "median_occurrences": 3}
    poor = Extension(extension.tokenizer, extension.first, extension.parts, record)
    assert [finding.level for finding in examine_extension(poor, ["jav"])] == ["ok", "warning", "warning"]
