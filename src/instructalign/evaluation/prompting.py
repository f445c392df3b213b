"""From items and prompts to the tokens that a model scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from instructalign.errors import DataError
from instructalign.evaluation.tasks import ItemTask, Task
from instructalign.training.tokenization import Codec
from instructalign.types import Item


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt, and the labels whose likelihood after it is needed.

    Attributes:
        prompt: token ids of the prompt; at least one.
        labels: token ids of each label after the prompt, at least one each; one empty label if the model writes.
        truncated: how many tokens of the item's text were dropped to fit the model's context.
    """

    prompt: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    truncated: int = 0


Question = tuple[str, Item, Sequence[Item]]
"""The id of one of a task's prompts, an item, and the solved examples that are shown before it."""


def make_queries(
    codec: Codec, task: ItemTask, questions: Sequence[Question], context: int | None = None
) -> list[Query]:
    """Fills items into prompts and encodes them with each label.

    A prompt that, together with the longest label, is longer than the model's context loses its solved examples,
    the first ones first, and then the beginning of the item's longest text, character by character; nothing of the
    question is lost.

    Args:
        codec: encodes text as the model expects it.
        task: the task.
        questions: what is asked.
        context: tokens that prompt and label may have together; None where there is no limit.

    Raises:
        DataError: a label has no tokens, or another's, or the question alone is longer than the context.
    """
    queries = _encode(codec, task, questions)
    for index, (prompt, item, examples) in enumerate(questions):
        if isinstance(task, Task):
            _check_labels(task, prompt, item, queries[index])
        whole = queries[index]
        for first in range(1, len(examples) + 1):
            if context is None or _length(codec, queries[index]) <= context:
                break
            short = _encode(codec, task, [(prompt, item, examples[first:])])[0]
            queries[index] = replace(short, truncated=len(whole.prompt) - len(short.prompt))
        if context is not None and _length(codec, queries[index]) > context:
            short = _truncate(codec, task, prompt, item, queries[index], context)
            queries[index] = replace(short, truncated=len(whole.prompt) - len(short.prompt))
    return queries


def _check_labels(task: Task, prompt: str, item: Item, query: Query) -> None:
    first: dict[tuple[int, ...], str] = {}
    words = task.words(prompt, item)
    for label, ids in zip(words, query.labels, strict=True):
        where = f"labels.{label}" if task.labels is not None else f"item {item.id!r}, option {label}"
        if not ids:
            raise DataError(
                f"{task.name}: {where}: the word {words[label]!r} has no tokens of its own after the "
                f"prompt {prompt!r} in this model's tokenizer; choose another word."
            )
        # Options of an item may be alike in published data; the first of them is chosen then.
        if first.setdefault(ids, label) != label and task.labels is not None:
            raise DataError(
                f"{task.name}: labels.{label}: the word {words[label]!r} has the same tokens as that of "
                f"{first[ids]!r} after the prompt {prompt!r} in this model's tokenizer, which may not know their "
                "script; the model cannot tell the two apart. Choose other words."
            )


def _truncate(codec: Codec, task: ItemTask, prompt: str, item: Item, whole: Query, context: int) -> Query:
    """A query that fits: the longest text loses its beginning, and the next where that is not enough."""
    fields = dict(item.fields)
    texts = [name for name in fields if name not in task.words_for]

    def encode(name: str, text: str) -> Query:
        return _encode(codec, task, [(prompt, replace(item, fields={**fields, name: text}), ())])[0]

    while True:
        longest = max(texts, key=lambda name: len(fields[name]))
        text = fields[longest]
        if not text:
            raise DataError(
                f"{task.name}: the prompt {prompt!r} has {_length(codec, whole)} tokens for item {item.id!r} and "
                f"does not fit the model's context of {context}, even without the item's text."
            )
        low, high = 1, len(text)  # by bisection, the first character from which on the text fits
        while low < high:
            middle = (low + high) // 2
            fits = _length(codec, encode(longest, text[middle:])) <= context
            low, high = (low, middle) if fits else (middle + 1, high)
        fields[longest] = text[low:].lstrip()
        short = encode(longest, fields[longest])
        if _length(codec, short) <= context:
            return short


def _encode(codec: Codec, task: ItemTask, questions: Sequence[Question]) -> list[Query]:
    texts = [task.fill(*question) for question in questions]
    words = [list(task.words(prompt, item).values()) or [""] for prompt, item, _ in questions]
    pairs = codec.pairs(
        [text for text, some in zip(texts, words, strict=True) for _ in some],
        [word for some in words for word in some],
    )
    queries, start = [], 0
    for some in words:
        of_question = pairs[start : start + len(some)]
        head = of_question[0][0] or [start_token(codec)]
        queries.append(Query(tuple(head), tuple(tuple(label) for _, label in of_question)))
        start += len(some)
    return queries


def _length(codec: Codec, query: Query) -> int:
    """Tokens in the longest sequence; an encoder takes the prompt alone."""
    return len(query.prompt) + (0 if codec.encoder_decoder else max(map(len, query.labels)))


def start_token(codec: Codec) -> int:
    """The token in place of an empty prompt, so that the label's first token has one to follow."""
    tokenizer = codec.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise DataError("the prompt has no tokens, and the tokenizer has no token to begin a text with.")
