"""The forms of instruction data, told apart by their fields, and conversations of several turns as examples.

| form | fields | as in |
| --- | --- | --- |
| messages | `messages` (or `conversations`): role and content | TRL, OpenAI |
| conversations | `conversations`: from and value | ShareGPT |
| instruction | `instruction`, `output`, often `input` | Alpaca |
| preference | `prompt`, `chosen` (`rejected` is left out) | TRL |
| completion | `prompt` (or `question`, `input`), `completion` (or `response`, `output`, `answer`) | TRL, OpenAI |
| chosen | `chosen`: a whole conversation (`rejected` is left out) | TRL |
| tree | `message_id`, `parent_id`, `role`, `text`: one message a record | OASST |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instructalign.data.readers import field_names
from instructalign.errors import DataError
from instructalign.types import Counts, Turn

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_SPOKEN = ("input", "context")
"""What belongs to a question beside it: Alpaca's, Dolly's."""
FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "tree": (("message_id",), ("parent_id",), ("role",), ("text",)),
    "messages": (("messages", "conversations", "conversation"),),
    "instruction": (("instruction",), ("output", "response")),
    "preference": (("prompt",), ("chosen",)),
    "completion": (("prompt", "question", "input"), ("completion", "response", "output", "answer")),
    "chosen": (("chosen",), ("rejected",)),
}
"""By form, its fields; of several names for one, the first that a record has."""


class UnusableTurnError(DataError):
    """A turn that is as its form has it, but no text to train on; `reason` is what it counts as."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def form_of(record: Mapping[str, Any]) -> str:
    """The form of a record; empty where it has the fields of none."""
    return next(
        (form for form, fields in FORMS.items() if all(any(name in record for name in names) for names in fields)),
        "",
    )


def known_forms() -> str:
    """The forms and their fields, for errors."""
    return "; ".join(
        f"{form} ({', '.join(' or '.join(names) for names in fields)})" for form, fields in FORMS.items()
    )


def conversation_of(record: Mapping[str, Any], form: str, where: str) -> list[Turn]:
    """The turns of a record, each a role (`system`, `user`, `assistant`) and its text.

    Raises:
        UnusableTurnError: a turn is a call, a picture or null.
        DataError: the turns are not what the form has.
    """
    values = [next(record[name] for name in names if name in record) for names in FORMS[form]]
    if form in ("messages", "chosen"):
        turns = _turns(values[0], where)
    elif form == "instruction":
        turns = [("user", _question(values[0], record, where)), ("assistant", _text(values[1], where))]
        for earlier in reversed(record.get("history") or ()):
            if not isinstance(earlier, Sequence) or isinstance(earlier, str) or len(earlier) != 2:
                raise DataError(
                    f"{where}: expected a question and its answer in history, found {str(earlier)[:60]!r}."
                )
            turns = [("user", _text(earlier[0], where)), ("assistant", _text(earlier[1], where)), *turns]
    else:
        prompt, answer = values
        turns = [("user", _question(prompt, record, where))] if isinstance(prompt, str) else _turns(prompt, where)
        # A chosen answer may be text, the last turn, or the whole conversation.
        rest = [("assistant", answer)] if isinstance(answer, str) else _turns(answer, where)
        if record.get("label") is False:  # KTO's
            raise UnusableTurnError(f"{where}: an answer marked as bad.", "answer marked as bad (label: false)")
        turns = rest if rest[: len(turns)] == turns else [*turns, *rest]
    system = record.get("system") or record.get("system_prompt")
    if isinstance(system, str) and turns and turns[0][0] != "system":
        turns = [("system", system), *turns]
    return turns


def _question(question: Any, record: Mapping[str, Any], where: str) -> str:
    """A question with what it is about."""
    others = [part for part in map(record.get, _SPOKEN) if part is not question and part != "<noinput>"]
    return "\n".join(_text(part, where) for part in (question, *others) if part)


def _turns(value: Any, where: str) -> list[Turn]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"{where}: expected a list of turns with role and content, found {type(value).__name__}.")
    turns = []
    for number, turn in enumerate(value):
        here = f"{where}, turn {number + 1}"
        if not isinstance(turn, Mapping) or not ({"role", "from"} & turn.keys()):
            raise DataError(f"{here}: expected role and content (or from and value), found {str(turn)[:60]!r}.")
        role = str(turn.get("role", turn.get("from")))
        called = next((name for name in ("tool_calls", "function_call") if turn.get(name)), "")
        if called:
            raise UnusableTurnError(f"{here}: {called} instead of an answer.", "tool call")
        said = next((key for key in ("content", "value", "text") if key in turn), None)
        if said is None:
            raise DataError(f"{here}: expected content (or value, text), found {str(turn)[:60]!r}.")
        turns.append((_ROLES.get(role.lower(), role), _text(turn[said], here)))
    return turns


def _text(value: Any, where: str) -> str:
    """A turn's text; of a list of parts, that of all of them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if not all(isinstance(part, str) for part in parts):
            raise UnusableTurnError(f"{where}: a part that is no text.", "turn with a part that is no text")
        value = "".join(parts)
    if value is None:
        raise UnusableTurnError(f"{where}: null instead of text.", "turn without text")
    if not isinstance(value, str):
        raise DataError(f"{where}: expected text, found {type(value).__name__}.")
    return value.strip()


def flaw_of(turns: Sequence[Turn]) -> str:
    """Why a conversation cannot be trained on; empty if it can."""
    if others := sorted({role for role, _ in turns} - {*_ROLES.values()}):
        return f"turn of the role {others[0]}"
    roles = [role for role, _ in turns if role != "system"]
    if "system" in [role for role, _ in turns[1:]]:
        return "system's turn in the middle"
    if any(role != ("user", "assistant")[number % 2] for number, role in enumerate(roles)):
        return "user and assistant do not take turns"
    if any(not text for role, text in turns if role != "system"):
        return "turn without text"
    return "" if len(roles) > 1 else "no answer"


def answers_of(turns: Sequence[Turn], record: Mapping[str, Any]) -> Iterator[tuple[tuple[Turn, ...], str]]:
    """Every assistant's turn with the turns before it: the loss is on all of the assistant's turns.

    Those that the record excludes from training (OpenAI: `weight: 0`, Axolotl: `train: false`) are context alone.
    """
    listed: Any = next((record[name] for name in FORMS["messages"][0] if isinstance(record.get(name), list)), ())
    spoken = [
        turn for turn in listed if _ROLES.get(str(turn.get("role", turn.get("from"))).lower()) == "assistant"
    ]
    excluded = [turn.get("weight") == 0 or turn.get("train") is False for turn in spoken]
    answers = [number for number, (role, _) in enumerate(turns) if role == "assistant"]
    if len(excluded) != len(answers):  # of a form without such marks
        excluded = [False] * len(answers)
    for number, out in zip(answers, excluded, strict=True):
        if not out:
            yield tuple(turns[:number]), turns[number][1]


def as_plain_text(turns: Sequence[Turn]) -> str:
    """Turns as one text, for models without a chat template: a single question as it is, more with their roles."""
    system = [text for role, text in turns if role == "system"]
    rest = [(role, text) for role, text in turns if role != "system"]
    if len(rest) == 1:
        return "\n\n".join([*system, rest[0][1]])
    lines = [f"{'User' if role == 'user' else 'Assistant'}: {text}" for role, text in rest]
    return "\n\n".join([*system, *lines, "Assistant:"])


def conversations_of_tree(
    records: Iterable[tuple[int, Mapping[str, Any]]], where: object, counts: Counts
) -> Iterator[tuple[int, Mapping[str, Any], list[Turn]]]:
    """The path from the root to each of the assistant's messages, of trees with one message a record.

    All messages are read first. One that the data mark as deleted or refused is left out, with a count.

    Raises:
        DataError: a message's parent is not in the data, or two have one id.
    """
    messages: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for number, record in records:
        id = str(record.get("message_id"))
        if id in messages:
            raise DataError(f"{where}:{number}: the message_id {id!r} is also in line {messages[id][0]}.")
        messages[id] = number, record
    for number, record in messages.values():
        if _ROLES.get(str(record["role"]).lower()) == "user":
            continue
        path, turn = [record], record
        while turn.get("parent_id"):
            above = messages.get(str(turn["parent_id"]))
            if above is None:
                raise DataError(f"{where}:{number}: its parent {turn['parent_id']!r} is not in the data.")
            turn = above[1]
            path.append(turn)
            if len(path) > len(messages):
                raise DataError(f"{where}:{number}: this message is among its own parents.")
        if any(each.get("deleted") or each.get("review_result") is False for each in path):
            counts.read += 1
            counts.drop("deleted or refused by reviewers")
            continue
        turns = [
            (
                _ROLES.get(str(each["role"]).lower(), str(each["role"])),
                _text(each["text"] or "", f"{where}:{number}"),
            )
            for each in reversed(path)
        ]
        yield number, record, turns


def mixed_forms(where: str, expected: str, record: Mapping[str, Any]) -> DataError:
    """The error where a record has another form than those before it."""
    return DataError(
        f"{where}: has the fields {', '.join(field_names(record))}, but the records before it have the form "
        f"{expected} ({', '.join(' or '.join(names) for names in FORMS.get(expected, ()))}). Put each form into a "
        "file of its own, and list the files as several sources."
    )
