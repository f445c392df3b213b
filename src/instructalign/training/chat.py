"""Chat templates: which one is used, with what options, and what ends a turn; tried once when a model is loaded.

The date of the day is no part of an example: a template that writes it gets `model.chat_date`, so that an example
is the same in training, in evaluation and in a resumed run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from instructalign.config import ModelConfig
from instructalign.errors import ModelError, first_line, suggest
from instructalign.files import text_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Sequence[Mapping[str, str]]
_QUESTION, _ANSWER, _SYSTEM = "Which word?", "This word.", "Be brief."
_OPEN_THOUGHT = re.compile(r"<think>\s*\Z")
_NO_THOUGHT = "<think>\n\n</think>\n\n"
_GIVEN = {"messages", "add_generation_prompt", "tools", "documents", "chat_template", "tokenize"}
_MARKS = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")  # of transformers; plain Jinja does not know them
_DIRECTIVES = ("%-d", "%-m", "%-H", "%-I", *(f"%{letter}" for letter in "aAbBcdDFHIjmMpSTuUwxXyYZz"), "%%")


@dataclass(frozen=True)
class ChatTemplate:
    """How a prompt becomes a user's turn, with the assistant's turn begun.

    Attributes:
        tokenizer: the model's own.
        template: the template's text (Jinja).
        name: the model's, for errors.
        options: the variables that it is rendered with.
        system_prompt: the system's turn; None for the template's own default.
        system_in_user: whether the system's text opens the first user's turn, since the template has no such turn.
        close_thought: whether a thought that the template opens is closed, empty, before the answer.
        lead: what the template writes between the beginning of the assistant's turn and the answer.
        turn_end: id of the token that ends the assistant's turn; None where the tokenizer's end token does.
        notes: what a user should know about it, a sentence each.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None
    system_in_user: bool = False
    close_thought: bool = False
    lead: str = ""
    turn_end: int | None = None
    notes: tuple[str, ...] = ()

    def render(self, turns: Turns, *, begin_answer: bool = True) -> str:
        """Turns as text, with the system prompt, where there is one and they do not begin with their own.

        Raises:
            ModelError: the template refuses them.
        """
        messages = [dict(turn) for turn in turns]
        if self.system_prompt is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        if self.system_in_user and messages[0]["role"] == "system" and len(messages) > 1:
            system, user = messages.pop(0), messages[0]
            messages[0] = {**user, "content": f"{system['content']}\n\n{user['content']}"}
        try:
            text = str(
                self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=begin_answer,
                    **self.options,
                )
            )
        except Exception as error:  # a template is a program: it raises what it likes
            what = first_line(error).rstrip(".")
            raise ModelError(
                f"the chat template of {self.name} cannot be used for {' and '.join(t['role'] for t in turns)}: "
                f"{type(error).__name__}: {what}. {_ADVICE}"
            ) from None
        if self.close_thought and begin_answer:
            text = _OPEN_THOUGHT.sub(lambda _: _NO_THOUGHT, text)
        return text + self.lead if begin_answer else text

    def to_dict(self) -> dict[str, Any]:
        """What run.json says of it."""
        end = self.tokenizer.eos_token if self.turn_end is None else self.turn_end
        return {
            "template": text_hash(self.template)[:12],
            "options": dict(self.options),
            "system_in_user": self.system_in_user,
            "turn_end": self.tokenizer.convert_ids_to_tokens(end) if isinstance(end, int) else end,
            "notes": list(self.notes),
        }


def load_chat_template(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> ChatTemplate | None:
    """A model's chat template, tried on a question and its answer; None where it has none or none is to be used.

    Raises:
        ModelError: the tokenizer has several and none is chosen, or none of the chosen name; or it refuses a plain
            question and answer.
    """
    if config.chat == "never":
        return None
    template = _chosen(tokenizer.chat_template, config)
    if template is None:
        return None
    options = _options(template, config)
    notes = []
    if "enable_thinking" in template and "enable_thinking" not in options:
        options["enable_thinking"] = False
        notes.append(
            "The chat template can think: model.chat_options sets enable_thinking: false, since answers have no "
            "thoughts."
        )
    if "strftime_now" in template:
        template = _pinned(template, datetime.fromisoformat(config.chat_date))
        notes.append(
            f"The chat template writes the date of the day: it is always {config.chat_date} (model.chat_date)."
        )
    chat = ChatTemplate(
        tokenizer,
        template,
        config.base,
        options,
        config.system_prompt,
        close_thought=not options.get("enable_thinking"),
    )
    if _without_system(chat):
        chat = replace(chat, system_in_user=True)
        if config.system_prompt is not None:
            notes.append(
                "The chat template has no system's turn: model.system_prompt is put before the user's first words."
            )
    user = {"role": "user", "content": _QUESTION}
    prompt = chat.render([user])
    if _QUESTION not in prompt:
        raise ModelError(
            f"the chat template of {config.base} leaves out the user's words: it makes {prompt[-80:]!r} of "
            f"{_QUESTION!r}. {_ADVICE}"
        )
    if chat.close_thought and prompt.endswith(_NO_THOUGHT) and "enable_thinking" not in template:
        notes.append("The chat template opens a thought: it is closed before the answer, since answers have none.")
    whole = chat.render([user, {"role": "assistant", "content": _ANSWER}], begin_answer=False)
    before, _, after = whole.rpartition(_ANSWER)
    end = _turn_end(tokenizer, after) if before else None
    if end == tokenizer.eos_token_id:
        end = None
    if end is not None:
        notes.append(
            f"The chat template ends a turn with {tokenizer.convert_ids_to_tokens(end)!r}, not with the end token "
            f"{tokenizer.eos_token!r}: answers are trained to end so, and generation stops there."
        )
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    return replace(chat, lead=lead, turn_end=end, notes=tuple(notes))


_ADVICE = (
    "Give it the variables that it needs with model.chat_options, choose another with model.chat_template, or "
    "train without one: model.chat: never."
)


def _options(template: str, config: ModelConfig) -> dict[str, Any]:
    """The configured variables; one that the template never reads would be dropped in silence.

    Raises:
        ModelError: there is such a one.
    """
    unread = [name for name in config.chat_options if not re.search(rf"\b{re.escape(name)}\b", template)]
    if unread := sorted({*unread, *_GIVEN.intersection(config.chat_options)}):
        raise ModelError(
            f"model.chat_options.{unread[0]}: the chat template of {config.base} has no such variable to set. "
            f"{suggest(unread[0], _variables(template))}"
        )
    return dict(config.chat_options)


def _variables(template: str) -> list[str]:
    """The variables that a template reads and that nobody but the user sets."""
    from jinja2 import Environment, TemplateError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])  # it is parsed, not rendered
    try:
        read = meta.find_undeclared_variables(environment.parse(_MARKS.sub("", template)))
    except TemplateError:  # rendering says what is wrong with it
        return []
    functions = {*environment.globals, "raise_exception", "strftime_now"}
    return sorted(name for name in read - functions - _GIVEN if not name.endswith("_token"))


def _pinned(template: str, date: datetime) -> str:
    """A template that writes one date as today's, by a macro in the place of transformers' function for it."""
    steps = "".join(f" | replace({each!r}, {date.strftime(each)!r})" for each in _DIRECTIVES)
    return f"{{% macro strftime_now(format) -%}}{{{{ format{steps} }}}}{{%- endmacro +%}}{template}"


def _chosen(templates: Any, config: ModelConfig) -> str | None:
    """The text of the configured template."""
    name = config.chat_template
    named: dict[str, str] = templates if isinstance(templates, dict) else {}
    if isinstance(templates, str):
        named = {"default": templates}
    if name is None:
        if named and "default" not in named:
            raise ModelError(
                f"the tokenizer of {config.base} has several chat templates and none is its default: "
                f"{', '.join(sorted(named))}. Choose one: --set model.chat_template={sorted(named)[0]}"
            )
        return named.get("default")
    if name not in named:
        raise ModelError(
            f"model.chat_template: {config.base} has no chat template {name!r}. {suggest(name, sorted(named))}"
        )
    return named[name]


def _without_system(chat: ChatTemplate) -> bool:
    """Whether the template refuses a system's turn, or leaves its words out."""
    system = chat.system_prompt or _SYSTEM
    try:
        text = chat.render([{"role": "system", "content": system}, {"role": "user", "content": _QUESTION}])
    except ModelError:  # the user's turn alone is tried next
        return True
    return system.strip() not in text


def _turn_end(tokenizer: PreTrainedTokenizerBase, tail: str) -> int | None:
    """The token right behind the answer; None where the template writes none, or spells it in ordinary text."""
    rest = tail.lstrip()
    tokens = sorted(tokenizer.get_added_vocab().items(), key=lambda item: -len(item[0]))
    return next((number for token, number in tokens if token and rest.startswith(token)), None)
