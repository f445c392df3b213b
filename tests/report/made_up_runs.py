"""Run folders as a run would leave them, with made-up predictions of known quality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from instructalign.evaluation.bootstrap import Bootstrap, sample_of_predictions, score_classification, signer
from instructalign.evaluation.mt_metrics import score_translations
from instructalign.evaluation.predictions import Translated
from instructalign.files import write_json, write_jsonl, write_text
from instructalign.types import Prediction

LANGUAGES = {
    "known": ["eng", "ind"],
    "new": ["jav", "sun", "min", "ace_Arab"],
    "related": ["mad", "nij"],
}
GROUPS = {"L1": LANGUAGES["known"], "L2": LANGUAGES["new"], "L3": LANGUAGES["related"]}
LABELS = ("positive", "neutral", "negative")
PROMPTS = ("en-1", "en-2")
UNSAFE = "<script>document.title = 'pwned'</script><img src='http://127.0.0.1:9/x'> *bold* | `code`"
ARABIC = "الكتاب الجديد جيد جدا (١٢٣)"
ITEMS = 60

# The share of items that a model knows the label of, by group.
BASE = {"L1": 0.9, "L2": 0.45, "L3": 0.4}
REPLAY = {"L1": 0.9, "L2": 0.8, "L3": 0.55}
PLAIN = {"L1": 0.4, "L2": 0.75, "L3": 0.5}
MLM = {"L1": 0.88, "L2": 0.5, "L3": 0.42}


def predictions(task: str, skill: Mapping[str, float], seed: int) -> list[Prediction]:
    """Predictions of a model with a given skill; items have a difficulty that all models share."""
    found = []
    for group, codes in GROUPS.items():
        for code in codes:
            hard = np.random.default_rng([7, len(task), *code.encode()])
            own = np.random.default_rng([seed, *code.encode()])
            difficulty = hard.uniform(size=ITEMS)
            gold = hard.integers(0, 3, size=ITEMS)
            for prompt in PROMPTS:
                for i in range(ITEMS):
                    margin = 6 * (skill[group] - difficulty[i]) + own.normal(0, 0.4)
                    scores = own.normal(-6, 0.3, size=3)
                    scores[gold[i]] += margin
                    by_label = dict(zip(LABELS, scores.round(4).tolist(), strict=True))
                    best = max(by_label, key=lambda label: by_label[label])
                    tokens = dict.fromkeys(LABELS, 2)
                    found.append(
                        Prediction(
                            task, code, prompt, str(i), LABELS[gold[i]], best, by_label, tokens, int(i == 3)
                        )
                    )
    return found


def write_evaluation(folder: Path, tasks: Mapping[str, list[Prediction]], run: str, model: str) -> None:
    """An evaluation folder: predictions, manifest, scores."""
    scores = []
    for task, found in tasks.items():
        outcomes = []
        for code in dict.fromkeys(p.language for p in found):
            chosen = [p for p in found if p.language == code]
            write_jsonl(folder / "predictions" / f"{task}.{code}.jsonl", map(asdict, chosen))
            outcomes.append(sample_of_predictions(chosen))

        sign = signer({"version": "0.1.0"}, model=model, bootstrap=200)
        scores += score_classification(outcomes, GROUPS, run, Bootstrap(200, 42), sign)
    write_json(folder / "scores.json", {"scores": [asdict(score) for score in scores]})
    left_out = {"bjn": "nusax/sentiment/banjarese/test.csv does not exist"}
    manifest = {"model": {"name": model, "hash": model}, "tasks": {t: {"left_out": left_out} for t in tasks}}
    write_json(folder / "predictions" / "manifest.json", manifest)


def write_translations(folder: Path, wrong: float, run: str, model: str) -> None:
    """Translations into and from English of which a share of the words is wrong, with their scores."""
    tasks = {}
    for code in ("jav", "ace_Arab", "mad"):
        for source, target in (("eng", code), (code, "eng")):
            draw = np.random.default_rng([len(run), round(100 * wrong), *code.encode(), *target.encode()])
            records = []
            for i in range(30):
                text, reference = (sentence(language, i) for language in (source, target))
                words = [word if draw.random() > wrong else "xx" for word in reference.split()]
                written = text if i % 10 == 0 else "" if i % 10 == 5 else " ".join(words)
                records.append(
                    Translated("lines", "p", str(i), source, target, text, reference, written, i % 9 == 0)
                )
            name = f"lines.{source}-{target}.jsonl"
            write_jsonl(folder / "translations" / name, map(asdict, records))
            tasks[name] = {
                "title": f"lines/{'into' if target == 'eng' else 'from'}-eng",
                "language": code,
                "split": "test",
                "prompts": ["p"],
                "items": len(records),
                "questions": "0123456789",
                "version": "0.1.0",
            }
    write_json(
        folder / "translations" / "manifest.json", {"model": {"name": model, "hash": model}, "tasks": tasks}
    )
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]
    found = score_translations(folder, GROUPS, run, Bootstrap(100, 42))
    write_json(folder / "scores.json", {"scores": [*scores, *map(asdict, found)]})


@cache
def _evaluation(
    tasks: tuple[str, ...],
    skill: tuple[tuple[str, float], ...],
    seed: int,
    run: str,
    model: str,
    wrong: float | None,
) -> dict[str, bytes]:
    """The files of an evaluation folder by path: scoring is slow, and most runs share theirs with others."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_evaluation(folder, {task: predictions(task, dict(skill), seed) for task in tasks}, run, model)
        if wrong is not None:
            write_translations(folder, wrong, run, model)
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def sentence(code: str, i: int) -> str:
    """A made-up sentence; one language is written from right to left, and one text would run if it were HTML."""
    if code == "ace_Arab":
        return f"{ARABIC} {i}"
    return f"{UNSAFE} {i}" if code == "mad" and i == 1 else f"words in {code} of the sentence number {i}"


def write_task(folder: Path, task: str) -> Path:
    """A task of the user's with its data; one text would run if it were taken for HTML."""
    for code in (code for codes in GROUPS.values() for code in codes):
        texts = [f"sentence {i} in {code}" for i in range(ITEMS)]
        if code == "ace_Arab":
            texts = [f"{ARABIC} {i}" for i in range(ITEMS)]
        if code == "min":
            texts = [f"{UNSAFE} {i}" for i in range(ITEMS)]
        lines = [{"id": str(i), "text": text, "label": "positive"} for i, text in enumerate(texts)]
        write_jsonl(folder / "data" / code / "test.jsonl", lines)
    path = folder / f"{task}.yaml"
    content = {
        "name": task,
        "title": task,
        "source": "made up",
        "licence": "CC0",
        "split": "test",
        "data": {"format": "jsonl", "path": "{name}/test.jsonl"},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": {code: code for codes in GROUPS.values() for code in codes},
        "labels": {label: label for label in LABELS},
        "prompts": {name: {"language": "eng", "prompt": "{text}\nFeeling:"} for name in PROMPTS},
    }
    write_text(path, yaml.safe_dump(content))
    return path


def log_lines(steps: int, floor: float, seed: int) -> list[dict[str, float]]:
    """A training log whose losses fall towards a floor."""
    noise = np.random.default_rng(seed)
    lines = []
    for step in range(10, steps + 1, 10):
        loss = floor + 3 * float(np.exp(-step / 120)) + noise.normal(0, 0.04)
        line = {"step": step, "loss": loss, "learning_rate": 1e-3 * (1 - step / steps), "grad_norm": 1.0}
        line |= {f"loss/{name}": loss * factor for name, factor in (("mt", 1.2), ("tlm", 0.9), ("xss", 0.4))}
        line |= {"loss/replay": 0.5 * loss, "tokens_per_second": 4200.0}
        if step % 100 == 0:
            line["heldout_loss"] = 1.05 * loss + 0.1
        lines.append({key: round(value, 5) for key, value in line.items()})
    return lines


def record(name: str, share: float) -> dict[str, Any]:
    """A run.json."""
    replay = round(6400 * share)
    rows = {"mt": (6400 - replay) // 3, "tlm": (6400 - replay) // 3, "xss": (6400 - replay) // 3}
    if share:
        rows["replay"] = replay
    lengths = {"mt": 40, "tlm": 60, "xss": 35, "replay": 70}
    return {
        "run": name,
        "command": ["instructalign", "run", f"configs/{name}.yaml", "--out", f"runs/{name}"],
        "seed": 42,
        "versions": {"instructalign": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "model": {"base": "models/base", "hash": "0a1b2c3d", "parameters": 481_248},
        "timings": {"evaluate_base": 12.3, "training_seconds": 61.25},
        "corpus": {
            "read": 1009,
            "kept": 1000,
            "dropped": {"duplicate": 6, "empty": 3},
            "heldout": 100,
            "removed": {
                "script": {
                    "texts": 2,
                    "rows": 1,
                    "examples": [{"row": "r-7", "language": "jav", "text": "ꦲꦏ꧀ꦱꦫ <b>", "score": 0.1}],
                }
            },
        },
        "replay": {"read": 4000, "chosen": 1000 if share else 0, "dropped": {}},
        "encoding": {"examples": 6400, "truncated_prompts": 12, "truncated_answers": 0},
        "mixture": {
            "planned": {
                "replay": share,
                "unit": "rows",
                "shares": {"rows": share, "tokens": 0.6 * share, "loss_tokens": 0.6 * share},
                "size": 1000 if share else 0,
                "rows": replay,
                "repeats": replay / 1000,
            },
            "realised": {
                "rows": rows,
                "tokens": {part: n * lengths[part] for part, n in rows.items()},
                "loss_tokens": {part: n * lengths[part] // 3 for part, n in rows.items()},
                "replay_share": {"rows": share, "tokens": share, "loss_tokens": share},
                "size": 1000 if share else 0,
            },
        },
    }


def write_run(
    tmp_path: Path,
    name: str,
    skill: Mapping[str, float] = REPLAY,
    *,
    share: float = 0.5,
    tasks: tuple[str, ...] = ("mood",),
    seed: int = 1,
    base: str = "0a1b2c3d",
    folder: str | None = None,
    run_seed: int = 42,
    translate: float | None = None,
) -> Path:
    """Writes a run folder under `tmp_path/runs` and returns it."""
    out = tmp_path / "runs" / (folder or name)
    files = [str(write_task(tmp_path, task)) for task in tasks]
    told = {"base": (tuple(BASE.items()), 100, base, None if translate is None else 0.55)}
    told["adapted"] = (tuple(skill.items()), seed, f"adapted{seed}", translate)
    for part, (shares, own, model, wrong) in told.items():
        for path, content in _evaluation(tasks, shares, own, part, model, wrong).items():
            place = out / "evaluation" / part / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    write_json(out / "run.json", record(name, share))
    write_jsonl(out / "log.jsonl", log_lines(600, 0.6, seed))
    config = {
        "seed": run_seed,
        "model": {"base": "models/base"},
        "languages": {**LANGUAGES, "names": {"min": "Minang & <b>kabau</b>", "ace_Arab": "بهسا اچيه"}},
        "evaluation": {"tasks": files, "data": str(tmp_path / "data"), "bootstrap": 200},
    }
    write_text(out / "config.yaml", yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
    return out
