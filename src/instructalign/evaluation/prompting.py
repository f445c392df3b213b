"""From an item and a prompt to the tokens that a model scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instructalign.errors import DataError
from instructalign.evaluation.tasks import Task
from instructalign.records import Item
from instructalign.training.encode import Codec


@dataclass(frozen=True, slots=True)
class Query:
    """One prompt, and the labels whose likelihood under it is wanted.

    Attributes:
        prompt: token ids of the prompt; at least one.
        labels: token ids of each label behind the prompt; at least one each.
        cut: how many tokens of the item's text were cut to fit the model's context.
    """

    prompt: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    cut: int = 0


def make_query(codec: Codec, task: Task, prompt: str, item: Item, context: int | None = None) -> Query:
    """Words a prompt for an item and encodes it with each label.

    A prompt that is longer than the model's context, together with the longest label, loses the beginning
    of the item's longest text, character by character; of the question nothing is lost.

    Args:
        codec: how the model wants its tokens.
        task: the task.
        prompt: id of one of its prompts.
        item: the item.
        context: tokens that prompt and label may have together; None where there is no limit.

    Raises:
        DataError: a label has no tokens, or the question alone is longer than the context.
    """
    whole = _encode(codec, task, prompt, item.fields)
    for label, ids in zip(task.labels, whole.labels, strict=True):
        if not ids:
            raise DataError(
                f"{task.name}: labels.{label}: the word {task.words(prompt)[label]!r} has no tokens of its own "
                f"behind the prompt {prompt!r} in this model's tokenizer; choose another word."
            )
    if context is None or _length(codec, whole) <= context:
        return whole
    fields = dict(item.fields)
    while True:
        longest = max(fields, key=lambda name: len(fields[name]))
        if not fields[longest]:
            raise DataError(
                f"{task.name}: the prompt {prompt!r} has {_length(codec, whole)} tokens for item {item.id!r} and "
                f"does not fit the model's context of {context}, even without the item's text."
            )
        fields[longest], fits = _cut(codec, task, prompt, fields, longest, context)
        if fits:
            short = _encode(codec, task, prompt, fields)
            return Query(short.prompt, short.labels, cut=len(whole.prompt) - len(short.prompt))


def _cut(
    codec: Codec, task: Task, prompt: str, fields: Mapping[str, str], name: str, context: int
) -> tuple[str, bool]:
    """The longest end of one text with which the prompt fits, and whether it fits at all; by bisection."""
    text = fields[name]
    low, high = 1, len(text)
    while low < high:
        middle = (low + high) // 2
        if _length(codec, _encode(codec, task, prompt, {**fields, name: text[middle:]})) <= context:
            high = middle
        else:
            low = middle + 1
    rest = text[low:].lstrip()
    return rest, _length(codec, _encode(codec, task, prompt, {**fields, name: rest})) <= context


def _encode(codec: Codec, task: Task, prompt: str, fields: Mapping[str, str]) -> Query:
    text = task.prompts[prompt].prompt.format_map(fields)
    pairs = [codec.pair(text, word) for word in task.words(prompt).values()]
    head = pairs[0][0] or [_start(codec)]
    return Query(tuple(head), tuple(tuple(label) for _, label in pairs))


def _length(codec: Codec, query: Query) -> int:
    """Tokens in the longest sequence; an encoder takes the prompt alone."""
    return len(query.prompt) + (0 if codec.encoder_decoder else max(map(len, query.labels)))


def _start(codec: Codec) -> int:
    """What stands before a prompt without tokens, so that the label's first token has something to follow."""
    tokenizer = codec.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise DataError("the prompt has no tokens, and the tokenizer has no token to begin a text with.")


def make_queries(
    codec: Codec, task: Task, questions: Sequence[tuple[str, Item]], context: int | None = None
) -> list[Query]:
    """`make_query` for many pairs of prompt and item."""
    return [make_query(codec, task, prompt, item, context) for prompt, item in questions]
