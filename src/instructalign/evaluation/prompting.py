"""From an item and a prompt to the tokens that a model scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instructalign.errors import DataError
from instructalign.evaluation.tasks import Task
from instructalign.training.tokenization import Codec
from instructalign.types import Item


@dataclass(frozen=True, slots=True)
class Query:
    """One prompt, and the labels whose likelihood under it is wanted.

    Attributes:
        prompt: token ids of the prompt; at least one.
        labels: token ids of each label behind the prompt; at least one each.
        truncated: how many tokens of the item's text were dropped to fit the model's context.
    """

    prompt: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    truncated: int = 0


def make_queries(
    codec: Codec, task: Task, questions: Sequence[tuple[str, Item]], context: int | None = None
) -> list[Query]:
    """Words prompts for items and encodes them with each label.

    A prompt that is longer than the model's context, together with the longest label, loses the beginning
    of the item's longest text, character by character; of the question nothing is lost.

    Args:
        codec: how the model wants its tokens.
        task: the task.
        questions: id of one of the task's prompts, and an item, each.
        context: tokens that prompt and label may have together; None where there is no limit.

    Raises:
        DataError: a label has no tokens, or another's, or the question alone is longer than the context.
    """
    queries = _encode(codec, task, [(prompt, item.fields) for prompt, item in questions])
    for place, (prompt, item) in enumerate(questions):
        _check_labels(task, prompt, queries[place])
        if context is not None and _length(codec, queries[place]) > context:
            queries[place] = _shorten(codec, task, prompt, item, queries[place], context)
    return queries


def _check_labels(task: Task, prompt: str, query: Query) -> None:
    first: dict[tuple[int, ...], str] = {}
    for label, ids in zip(task.labels, query.labels, strict=True):
        if not ids:
            raise DataError(
                f"{task.name}: labels.{label}: the word {task.words(prompt)[label]!r} has no tokens of its own "
                f"behind the prompt {prompt!r} in this model's tokenizer; choose another word."
            )
        if first.setdefault(ids, label) != label:
            raise DataError(
                f"{task.name}: labels.{label}: the word {task.words(prompt)[label]!r} has the same tokens as that "
                f"of {first[ids]!r} behind the prompt {prompt!r} in this model's tokenizer, which may not know "
                "their script; the model could not tell the two apart. Choose other words."
            )


def _shorten(codec: Codec, task: Task, prompt: str, item: Item, whole: Query, context: int) -> Query:
    """A query that fits: the beginning of the longest text is cut, and of the next where that is not enough."""
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
            short = _encode(codec, task, [(prompt, fields)])[0]
            return Query(short.prompt, short.labels, truncated=len(whole.prompt) - len(short.prompt))


def _cut(
    codec: Codec, task: Task, prompt: str, fields: Mapping[str, str], name: str, context: int
) -> tuple[str, bool]:
    """The longest end of one text with which the prompt fits, and whether it fits at all; by bisection."""
    text = fields[name]
    low, high = 1, len(text)
    while low < high:
        middle = (low + high) // 2
        if _fits(codec, task, prompt, {**fields, name: text[middle:]}, context):
            high = middle
        else:
            low = middle + 1
    rest = text[low:].lstrip()
    return rest, _fits(codec, task, prompt, {**fields, name: rest}, context)


def _fits(codec: Codec, task: Task, prompt: str, fields: Mapping[str, str], context: int) -> bool:
    return _length(codec, _encode(codec, task, [(prompt, fields)])[0]) <= context


def _encode(codec: Codec, task: Task, questions: Sequence[tuple[str, Mapping[str, str]]]) -> list[Query]:
    texts = [task.prompts[prompt].prompt.format_map(fields) for prompt, fields in questions]
    words = {prompt: list(task.words(prompt).values()) for prompt, _ in questions}
    count = len(task.labels)
    pairs = codec.pairs(
        [text for text in texts for _ in range(count)],
        [word for prompt, _ in questions for word in words[prompt]],
    )
    queries = []
    for start in range(0, len(pairs), count):
        some = pairs[start : start + count]
        head = some[0][0] or [_start(codec)]
        queries.append(Query(tuple(head), tuple(tuple(label) for _, label in some)))
    return queries


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
