"""Questions in one language, answers in another: which are, how they are asked, and what is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.files import collected_notices
from instructalign.instructions.templates import ANSWER_IN, load_templates
from instructalign.mixture.training_data import describe_mixture, load_taught, prepare_data
from instructalign.types import Instruction

WORDS = {"eng": ("What {}?", "That {}."), "jav": ("Apa {}?", "Iku {}."), "sun": ("Naon {}?", "Eta {}.")}
NAMES = {"eng": "English", "jav": "Javanese", "sun": "Sundanese"}


def write(path: Path, records: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return {"format": "jsonl", "path": str(path), **options}


def texts(code: str, number: int) -> tuple[str, str]:
    question, answer = (form.format(number) for form in WORDS[code])
    return question, answer


def parallel(folder: Path, code: str, count: int = 20, **options: Any) -> dict[str, Any]:
    """A source whose records have the numbers of those that they translate."""
    records = [{"id": n, "inputs": texts(code, n)[0], "targets": texts(code, n)[1]} for n in range(count)]
    return write(folder / f"{code}.jsonl", records, **{"id": "id", **options})


def settings(folder: Path, sources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    lines = "".join(f"sentence number {n}\tukara nomer {n}\tkalimah nomer {n}\n" for n in range(40))
    (folder / "pairs.tsv").write_text("eng\tjav\tsun\n" + lines, encoding="utf-8")
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav", "sun"]},
        "corpora": [{"format": "tsv", "path": str(folder / "pairs.tsv")}],
        "instructions": {"heldout": 5},
        "instruction_data": {"sources": sources, "size": 60, "share": 0.5, "crosslingual": 0.5, **changes},
        "training": {"steps": 10, "batch_size": 16},
    }


def configure(folder: Path, *codes: str, **changes: Any) -> Config:
    return build_config(settings(folder, {code: parallel(folder, code) for code in codes}, **changes))


def check(example: Instruction) -> str:
    """The direction of an example, whose question, answer and names must be those of its languages."""
    number = int(example.id)
    assert example.answer == texts(example.target, number)[1]  # never in another language
    if not example.source:
        assert example.prompt == texts(example.target, number)[0]
        return example.target
    assert example.source != example.target
    question, names = texts(example.source, number)[0], [NAMES[example.source], NAMES[example.target]]
    worded = [
        each.prompt.format(question=question, source=names[0], target=names[1])
        for each in load_templates(["eng"], [ANSWER_IN])[ANSWER_IN]
    ]
    assert example.prompt in worded
    return f"{example.source}-{example.target}"


def test_half_of_each_language_is_asked_in_another(tmp_path: Path) -> None:
    taught = load_taught(configure(tmp_path, "eng", "jav", "sun"))
    counts = Counter(map(check, taught.examples))
    assert {code: counts[code] for code in NAMES} == {"eng": 10, "jav": 10, "sun": 10}
    across = {"eng-jav": 5, "eng-sun": 5, "jav-eng": 5, "jav-sun": 5, "sun-eng": 5, "sun-jav": 5}
    assert {direction: count for direction, count in counts.items() if "-" in direction} == across
    assert len({each.prompt.replace(str(each.id), "") for each in taught.examples if each.source == "eng"}) > 4
    for count in range(1, 60):  # of any first n
        some = [each for each in taught.examples[:count] if each.target == "jav"]
        assert sum(bool(each.source) for each in some) == len(some) // 2


def test_it_depends_on_the_seed_alone(tmp_path: Path) -> None:
    config = configure(tmp_path, "eng", "jav")
    assert load_taught(config) == load_taught(config)
    few = load_taught(configure(tmp_path, "eng", "jav", size=10))
    assert few.examples == load_taught(config).examples[:10]
    plain = load_taught(configure(tmp_path, "eng", "jav", crosslingual=0))
    assert [each.answer for each in plain.examples] == [each.answer for each in load_taught(config).examples]
    assert not any(each.source for each in plain.examples)
    whole = load_taught(configure(tmp_path, "eng", "jav", crosslingual=1))
    assert Counter(map(check, whole.examples)) == {"eng-jav": 20, "jav-eng": 20}


def test_the_shares_of_a_run(tmp_path: Path) -> None:
    config = configure(tmp_path, "eng", "jav", crosslingual=0.25)
    data = prepare_data(config)
    shown = [each for each in map(data.mixture.__getitem__, range(160)) if each.objective == "instruction_data"]
    counts = Counter(f"{each.source}-{each.target}" for each in shown if each.source)
    across = describe_mixture(config, data.mixture)["instruction_data"]["crosslingual"]
    assert across == {"asked": 0.25, "share": sum(counts.values()) / 80, "rows": dict(sorted(counts.items()))}
    assert sum(counts.values()) == 20


def test_questions_are_in_the_language_of_their_template(tmp_path: Path) -> None:
    given = settings(tmp_path, {code: parallel(tmp_path, code) for code in ("eng", "jav")}, crosslingual=1)
    given["instructions"]["templates"] = ["ind"]
    asked = [each for each in load_taught(build_config(given)).examples if each.source == "jav"]
    assert all(
        "bahasa Inggris" in each.prompt for each in asked
    )  # jav has no templates: those of the configuration
    asked = [each for each in load_taught(build_config(given)).examples if each.source == "eng"]
    assert all("Javanese" in each.prompt for each in asked)  # there are in eng
    own = tmp_path / "own.yaml"
    own.write_text(
        "language: jav\nsource: ours\nlicence: CC0-1.0\n"
        'templates:\n  mt: [{id: mt-1, prompt: "{text} > {target}:"}]\n'
        'answer_in: [{id: a-1, prompt: "{question} [{source} > {target}]"}]\n'
    )
    given["instructions"] |= {"templates": [str(own)], "objectives": {"mt": 1}}
    given["languages"]["names"] = {"eng": "Inggris", "jav": "Jawa"}
    examples = load_taught(build_config(given)).examples
    assert {each.prompt for each in examples if each.source == "jav"} == {
        f"Apa {n}? [Jawa > Inggris]" for n in range(20)
    }


def test_what_is_no_translation_keeps_its_question(tmp_path: Path) -> None:
    def turns(question: str, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    said = {
        "a": turns("Apa a?", "Iku a."),
        "b": turns("What b?", "Iku b."),
        "c": turns("Apa c?", "THAT c."),
        "d": turns("Apa d?", "42"),
        "e": [*turns("Apa e?", "Iku e."), *turns("Terus?", "Wis.")],
        "f": turns("Apa f?", "Iku f."),
    }
    jav = [{"id": id if id != "f" else None, "messages": messages} for id, messages in said.items()]
    eng = [{"id": id, "inputs": f"What {id}?", "targets": f"That {id}."} for id in "abce"]
    eng.append({"id": "d", "inputs": "What d?", "targets": "42"})
    sources = {
        "jav": write(tmp_path / "jav.jsonl", jav, id="id"),
        "eng": write(tmp_path / "eng.jsonl", eng, id="id"),
    }
    with collected_notices() as notices:
        taught = load_taught(build_config(settings(tmp_path, sources, crosslingual=1)))
    assert any("6 of 12 examples have no translation" in found for found, _ in notices)
    asked = {each.id: each.source for each in taught.examples if each.target == "jav" and not each.turns}
    assert asked == {"a": "eng", "b": "", "c": "", "d": "eng", "e": "eng", "": ""}
    assert all(not each.source for each in taught.examples if each.turns)


def test_translations_of_what_is_held_out_are_held_out(tmp_path: Path) -> None:
    taught = load_taught(configure(tmp_path, "eng", "jav", heldout=6))
    held = {each.id for each in taught.heldout}
    assert len(taught.heldout) == 6
    assert not any(each.source for each in taught.heldout)
    assert held.isdisjoint(each.id for each in taught.examples)
    assert len(taught) == 2 * (20 - len(held))
    assert taught.counts.dropped["translation of what is held out"] == 40 - 6 - len(taught)


def test_what_lacks_ids_is_refused(tmp_path: Path) -> None:
    sources = {"eng": parallel(tmp_path, "eng"), "jav": parallel(tmp_path, "jav", id=None)}
    with pytest.raises(ConfigError, match=r"instruction_data: .*crosslingual is 0\.5.* are in eng"):
        build_config(settings(tmp_path, sources))
    sources["jav"]["id"] = "number"
    with pytest.raises(DataError, match=r"jav\.jsonl:1: .*'number'.*id, inputs, targets"):
        load_taught(build_config(settings(tmp_path, sources)))
    write(tmp_path / "jav.jsonl", [{"id": [1], "inputs": "Apa?", "targets": "Iku."}])
    sources["jav"]["id"] = "id"
    with pytest.raises(DataError, match=r"jav\.jsonl:1: .*'id', found \[1\]\. .*whole number"):
        load_taught(build_config(settings(tmp_path, sources)))
    jav = [{"id": f"j{n}", "inputs": f"Apa {n}?", "targets": "Iku."} for n in range(3)]
    sources["jav"] = write(tmp_path / "jav.jsonl", jav, id="id")
    with pytest.raises(DataError, match=r"crosslingual is 0\.5.*none of 23 examples"):
        load_taught(build_config(settings(tmp_path, sources)))
    again = [{"id": 3, "inputs": "Another?", "targets": "Yes."}]
    two = [parallel(tmp_path, "eng"), write(tmp_path / "more.jsonl", again, id="id")]
    sources = {"jav": parallel(tmp_path, "jav"), "eng": two}
    with pytest.raises(DataError, match=r"sources\.eng: .*'3', eng\.jsonl:4 and more\.jsonl:1"):
        load_taught(build_config(settings(tmp_path, sources)))


def test_templates_are_checked(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "language: jav\nsource: ours\nlicence: CC0-1.0\n"
        "templates:\n  mt: [{id: mt-1, prompt: '{text} > {target}:'}]\n"
        "answer_in: [{id: mt-1, prompt: '{question}'}, {id: a, prompt: '{question} {text} {target}'}]\n"
    )
    with pytest.raises(ConfigError) as error:
        load_templates([str(own)])
    twice, missing, unknown = error.value.problems
    assert "'mt-1' is given 2 times" in twice
    assert "mt-1: needs {target} once" in missing
    assert "a: unknown slot {text}" in unknown
    with pytest.raises(ConfigError, match="no template for answer_in"):
        load_templates(["toy"], [ANSWER_IN])
    assert ANSWER_IN not in load_templates(["eng"])
