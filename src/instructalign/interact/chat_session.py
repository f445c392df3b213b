"""A conversation with a model, in the chat template that it was trained with; without one, as plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path

from instructalign.errors import DataError
from instructalign.files import json_line
from instructalign.interact.model_choice import choose_model, load_for_use
from instructalign.mixture.conversations import as_plain_text
from instructalign.randomness import digest_key
from instructalign.training.generation import Sampling, TokenChooser, decode_until, generate_batch
from instructalign.training.models import LoadedModel
from instructalign.types import Turn

OnText = Callable[[str], None]
"""Called with each new piece of an answer while it is written."""

_NEXT_TURN = "\n\nUser:"  # as `as_plain_text` begins one: a model without a template may go on with it
_RETRY_TEMPERATURE = 0.7


def silent_text(piece: str) -> None:
    """Shows nothing."""


def stream_answer(
    loaded: LoadedModel,
    turns: list[Turn],
    max_new_tokens: int,
    on_text: OnText = silent_text,
    *,
    stops: Sequence[str] = (),
    temperature: float = 0.0,
    attempt: int = 0,
) -> tuple[str, bool]:
    """Answers the last turn of a conversation, and tells whether the model ended the answer by itself.

    Args:
        loaded: the model.
        turns: the conversation, the last turn the user's.
        max_new_tokens: the longest answer.
        on_text: called with its pieces.
        stops: strings that end the answer.
        temperature: of sampling; 0 decodes greedily.
        attempt: with sampling, which of the answers that it could give.

    Raises:
        DataError: the turns leave no room in the model's context.
    """
    prompt = loaded.codec.pair(as_plain_text(turns), "", turns if len(turns) > 1 else ())[0]
    if loaded.codec.chat is None and len(turns) > 1:
        stops = (*stops, _NEXT_TURN)
    written = ""

    def watch(tokens: list[int]) -> bool:
        nonlocal written
        text = str(loaded.tokenizer.decode(tokens, skip_special_tokens=True)).lstrip()
        # Half a character is not shown yet, nor what may be the beginning of the next turn.
        for stop in stops:
            text = text.partition(stop)[0]
            text = text[: len(text) - next((n for n in range(len(stop), 0, -1) if text.endswith(stop[:n])), 0)]
        text = text.rstrip("\ufffd")
        if len(text) > len(written):
            on_text(text[len(written) :])
            written = text
        return False

    chooser = None
    if temperature:
        chooser = TokenChooser(Sampling(digest_key(0, "chat"), temperature), [attempt])
    [made] = generate_batch(loaded, [prompt], max_new_tokens, chooser=chooser, stops=stops, watch=watch)
    text, unfinished = decode_until(loaded.tokenizer, made, stops)
    if rest := text[len(written) :]:
        on_text(rest)
    return text, not unfinished


class Chat:
    """A conversation that is kept from turn to turn.

    Args:
        loaded: the model.
        system: the system's turn; None for the configured one, or the template's own.
        max_new_tokens: the longest answer.
        temperature: of sampling; 0 decodes greedily, so that the same words get the same answer.

    Attributes:
        turns: the conversation so far.
        system: the system's turn.
        finished: whether the model ended its last answer by itself.
        forgotten: how many of the first turns the model's context had no room for at the last answer.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        system: str | None = None,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
    ) -> None:
        self.loaded, self.system = loaded, system
        self.turns: list[Turn] = []
        self.finished, self.forgotten = True, 0
        self._most, self._temperature, self._attempt = max_new_tokens, temperature, 0

    def ask(self, text: str, on_text: OnText = silent_text) -> str:
        """The model's answer to the user's next turn. Interrupted (Ctrl-C), it is what was written so far.

        Raises:
            DataError: the turn has no text, or leaves no room in the model's context.
        """
        if not text.strip():
            raise DataError("nothing was asked: the turn has no text.")
        self._attempt = 0
        return self._answer([*self.turns, ("user", text.strip())], on_text)

    def retry(self, on_text: OnText = silent_text) -> str:
        """Another answer to the last turn, by sampling.

        Raises:
            DataError: nothing was asked yet.
        """
        if not self.turns:
            raise DataError("there is no answer yet to try again.")
        self._attempt += 1
        return self._answer(self.turns[:-1], on_text)

    def undo(self) -> bool:
        """Takes the last question and its answer back; False where there is none."""
        self.turns, had = self.turns[:-2], bool(self.turns)
        return had

    def save(self, path: str | Path) -> None:
        """Adds the conversation to a file of JSON lines, in the form `messages`, which replay data may have.

        Raises:
            DataError: there is nothing to save.
        """
        if not self.turns:
            raise DataError("there is nothing to save yet.")
        messages = [{"role": role, "content": text} for role, text in self._with_system(self.turns)]
        path = Path(path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(json_line({"messages": messages}))

    def _with_system(self, turns: list[Turn]) -> list[Turn]:
        return [("system", self.system), *turns] if self.system else turns

    def _answer(self, turns: list[Turn], on_text: OnText) -> str:
        sent, context = turns, self.loaded.codec.context or inf
        while len(sent) > 1:
            asked = self._with_system(sent)
            if len(self.loaded.codec.pair(as_plain_text(asked), "", asked)[0]) + self._most <= context:
                break
            sent = sent[2:]
        temperature = self._temperature or (_RETRY_TEMPERATURE if self._attempt else 0.0)
        pieces: list[str] = []

        def collect(piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        try:
            answer, finished = stream_answer(
                self.loaded,
                self._with_system(sent),
                self._most,
                collect,
                temperature=temperature,
                attempt=self._attempt,
            )
        except KeyboardInterrupt:
            if not pieces:
                raise
            answer, finished = "".join(pieces).rstrip(), False
        self.turns = [*turns, ("assistant", answer)]
        self.finished, self.forgotten = finished, len(turns) - len(sent)
        return answer


def chat(
    model: str | Path,
    *,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
) -> Chat:
    """A conversation with a model: `chat("runs/mine").ask("Translate into Javanese: …")`.

    Args:
        model: a run, a model folder, or a name on the Hub.
        system, max_new_tokens, temperature: as in `Chat`.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    loaded = load_for_use(choose_model(str(model)).model)
    return Chat(loaded, system=system, max_new_tokens=max_new_tokens, temperature=temperature)
