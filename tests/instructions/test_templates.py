from __future__ import annotations

from pathlib import Path
from string import Formatter

import pytest

from instructalign.errors import ConfigError, UnknownNameError
from instructalign.instructions.templates import Template, load_templates, template_sets, variety
from instructalign.plugins import OBJECTIVES

GOOD = """
language: eng
source: test
licence: CC0-1.0
answers: {"yes": "yes", "no": "no"}
templates:
  mt: [{id: mt-1, prompt: "{text} ="}]
  xss: [{id: xss-1, prompt: "{first} = {second}?"}]
"""


def load(folder: Path, text: str, *names: str) -> dict[str, list[str]]:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    objectives = {name: OBJECTIVES.get(name) for name in names or ("mt", "xss")}
    return {name: [t.id for t in several] for name, several in load_templates([str(path)], objectives).items()}


def complaint(folder: Path, text: str, *names: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(folder, text, *names)
    return str(error.value)


@pytest.mark.parametrize("name", [name for name in template_sets() if name != "toy"])
def test_shipped_sets_are_whole(name: str) -> None:
    for objective, several in load_templates([name], OBJECTIVES.names()).items():
        kind = OBJECTIVES.get(objective)
        prompts = [template.prompt for template in several]
        assert len(prompts) >= (10 if name == "eng" else 6), objective
        assert len(set(prompts)) == len(prompts)
        assert variety(several) > 0.75, objective
        if not kind.labels and not {"noisy", "cloze"} & set(kind.slots):  # nothing else says the language
            assert all("{target}" in prompt for prompt in prompts), objective


def test_own_set(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == {"mt": ["own/mt-1"], "xss": ["own/xss-1"]}
    assert load(tmp_path, GOOD, "mt") == {"mt": ["own/mt-1"]}


def test_sets_add_up() -> None:
    both = load_templates(["eng", "ind", "eng"], ["mt"])["mt"]
    assert {template.language for template in both} == {"eng", "ind"}
    assert len({template.id for template in both}) == len(both)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{text} =", "no slot", "mt-1: needs {text} once, found it 0 times"),
        ("{text} =", "{text} {text}", "mt-1: needs {text} once, found it 2 times"),
        ("{text} =", "{text} {tagret}", "mt-1: unknown slot {tagret}. Did you mean 'target'?"),
        ("{text} =", "{text} {", "mt-1: braces do not match"),
        ("{text} =", "{text} {}", "mt-1: unknown slot {}"),
        ("{text} =", "{text} ", "mt-1: starts or ends with a space"),
        ("id: xss-1", "id: mt-1", "templates: the id 'mt-1' is given 2 times"),
        ('"no": "no"', '"nope": "no"', "answers: xss needs a word for 'no'"),
        ('"no": "no"', '"no": "yes"', "answers: xss needs a different word for each of yes, no"),
        ("language: eng", "language: zzzz", "'zzzz' is not a language code"),
        ("source: test", "", "source: missing"),
        ("licence:", "license:", "license: unknown key. Did you mean 'licence'?"),
        ("templates:", "- templates", "not YAML"),
        ("  xss:", "  xs:", "templates.xs: unknown objective. Did you mean 'xss'?"),
        ("  xss:", "  mt:", "duplicate key 'mt'"),
    ],
)
def test_each_mistake_is_reported(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    said = complaint(tmp_path, GOOD.replace(old, new))
    assert message in said
    assert str(tmp_path / "own.yaml") in said


def test_all_problems_are_listed(tmp_path: Path) -> None:
    said = complaint(tmp_path, GOOD.replace("{text} =", "{txet}").replace("{second}", "{third}"))
    assert "4 problems" in said


def test_an_objective_without_a_template(tmp_path: Path) -> None:
    said = complaint(tmp_path, GOOD, "mt", "tlm")
    assert "no template for tlm in" in said
    assert "file of your own" in said


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown template set 'english'.*Available: .*eng"):
        load_templates(["english"])
    with pytest.raises(ConfigError, match=r"cannot be read.*No such file"):
        load_templates([str(tmp_path / "none.yaml")])


def test_the_english_prompts_of_each_objective_fill_without_leftovers() -> None:
    for name, several in load_templates(["eng"]).items():
        for template in several:
            slots = {slot: "x" for _, slot, _, _ in Formatter().parse(template.prompt) if slot}
            assert "{" not in template.prompt.format(**slots), name


def test_variety_by_hand() -> None:
    def worded(*prompts: str) -> list[Template]:
        return [Template("x", "eng", prompt, {}, {}) for prompt in prompts]

    assert variety(worded("Say {text} now:", "say it {text} NOW")) == pytest.approx(1 / 3)
    assert variety(worded("a b {text}", "a c {text}", "d {text}")) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert variety(worded("a", "a")) == variety(worded("a")) == 0
