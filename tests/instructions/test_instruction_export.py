from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from instructalign.config import Entry, InstructionsConfig, LanguagesConfig
from instructalign.instructions import InstructionStream, write_stream
from instructalign.types import ParallelRow


def make(count: int = 20) -> InstructionStream:
    rows = [ParallelRow(f"r{i}", {"eng": f"stone {i} falls", "jav": f"watu {i} tiba"}) for i in range(count)]
    config = InstructionsConfig(objectives={name: Entry(name=name) for name in ("mlm", "tlm", "mt", "xss")})
    return InstructionStream(rows, config, LanguagesConfig(known=["eng"], new=["jav"]), ["eng"], 1)


def test_writing(tmp_path: Path) -> None:
    stream = make()
    assert write_stream(tmp_path / "a.jsonl", stream, 60) == 60
    write_stream(tmp_path / "b.jsonl", make(), 100)
    first, longer = (tmp_path / "a.jsonl").read_bytes(), (tmp_path / "b.jsonl").read_bytes()
    assert longer.startswith(first)
    records = [json.loads(line) for line in first.splitlines()]
    assert list(records[0]) == ["prompt", "answer", "objective", "source", "target", "row"]
    assert [record["prompt"] for record in records] == [stream[k].prompt for k in range(60)]

    write_stream(tmp_path / "m.jsonl", stream, 2, "messages")
    record = json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])
    assert list(record) == ["messages", "objective", "source", "target", "row"]
    assert record["messages"] == [
        {"role": "user", "content": stream[0].prompt},
        {"role": "assistant", "content": stream[0].answer},
    ]


@pytest.mark.parametrize("form", ["plain", "messages"])
def test_parquet_has_the_same_records(tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr("instructalign.instructions.export._CHUNK", 7)
    assert write_stream(tmp_path / "a.parquet", make(), 30, form) == 30
    write_stream(tmp_path / "a.jsonl", make(), 30, form)
    with ParquetFile(tmp_path / "a.parquet") as file:
        lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
        assert file.read().to_pylist() == [json.loads(line) for line in lines]


def test_chunks_and_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = make()
    for form in ("plain", "messages"):
        write_stream(tmp_path / form, stream, 30, form)
    monkeypatch.setattr("instructalign.instructions.export._CHUNK", 7)
    seen: list[tuple[str, int, int, str]] = []
    assert write_stream(tmp_path / "1", stream, 30, progress=lambda *step: seen.append(step)) == 30
    assert [(done, total) for _, done, total, _ in seen] == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]
    write_stream(tmp_path / "2", stream, 30, processes=2)
    write_stream(tmp_path / "3", stream, 30, "messages", processes=3)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert (tmp_path / "messages").read_bytes() == (tmp_path / "3").read_bytes()


CHAT = (
    "{% for turn in messages %}{% if turn.role == 'assistant' %}answer: "
    "{% generation %}{{ turn.content }}{{ eos_token }}{% endgeneration %}"
    "{% else %}question: {{ turn.content }} {% endif %}{% endfor %}"
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["made.jsonl", "made.parquet"])
def test_trl_takes_the_messages_as_they_are(tmp_path: Path, name: str) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset

    from tiny import tiny_model, tiny_tokenizer

    write_stream(tmp_path / name, make(), 16, "messages")
    kind = "json" if name.endswith("jsonl") else "parquet"
    dataset = load_dataset(kind, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=4,
        assistant_only_loss=True,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    trainer = trl.SFTTrainer(
        model=tiny_model("llama"), args=arguments, train_dataset=dataset, processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    learnt = tokenizer.decode(batch["labels"][0][batch["labels"][0] != -100])
    answers = {make()[k].answer + tokenizer.eos_token for k in range(16)}
    assert learnt in answers
    assert trainer.train().training_loss > 0
