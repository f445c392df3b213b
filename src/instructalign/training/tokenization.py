"""From texts to token ids, the same way in training and in evaluation, and truncation to a length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from instructalign.training.chat import ChatTemplate
from instructalign.training.special_tokens import LiteralTokenizer, literal_tokenizer
from instructalign.types import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Codec:
    """How a model's prompts and answers become tokens.

    Attributes:
        tokenizer: the model's own.
        encoder_decoder: whether prompt and answer go to an encoder and a decoder, or are one sequence.
        chat: the chat template that wraps the prompt as a user's turn; None where prompts stay as they are.
        context: the model's context length in tokens; None where nothing sets a limit.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder_decoder: bool
    chat: ChatTemplate | None = None
    context: int | None = None

    @property
    def end(self) -> int | None:
        """The token that ends an answer: what the chat template ends a turn with, or the end-of-sequence token."""
        if self.chat and self.chat.turn_end is not None:
            return self.chat.turn_end
        end: int | None = self.tokenizer.eos_token_id
        return end

    def wrap(self, prompt: str, turns: Sequence[Turn] = ()) -> str:
        """The prompt as the model sees it: inside the chat template, or as it is.

        Args:
            prompt: the user's words, or a conversation as plain text.
            turns: those of the conversation, for the chat template.
        """
        if not self.chat:
            return prompt
        asked = turns or [("user", prompt)]
        return self.chat.render([{"role": role, "content": text} for role, text in asked])

    def opening(self) -> list[int]:
        """The token ids every prompt begins with: all before the user's words in a chat, or the first token."""
        if not self.chat:
            first = self.tokenizer.bos_token_id
            return [] if first is None else [first]
        one, other = (self.tokenizer.encode(self.wrap(text), add_special_tokens=False) for text in ("a", "1"))
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        return [token for token, _ in alike]

    def pair(self, prompt: str, answer: str, turns: Sequence[Turn] = ()) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of an answer to it, without an end-of-sequence token.

        Decoder-only models get one space between the two, and the answer's ids are what the whole text adds to
        the prompt's own, so that a tokenizer which merges spaces into words sees the text as in normal use (the
        rule of lm-evaluation-harness). A chat template has its own boundary. Special tokens that the two spell
        are text; those of the chat template are tokens.
        """
        tokenizer: PreTrainedTokenizerBase | LiteralTokenizer = self.tokenizer
        literal = literal_tokenizer(self.tokenizer)
        context = None
        if literal is not None and literal.spelled(prompt, answer):
            tokenizer = literal
            if self.chat:
                masked = [(role, literal.mask(text)) for role, text in turns]
                context = literal.unmask(self.wrap(literal.mask(prompt), masked))
        if self.chat:
            context = self.wrap(prompt, turns) if context is None else context
            return encode_continuation(tokenizer, context, answer, add_special_tokens=False)
        if self.encoder_decoder:
            return tokenizer.encode(prompt), tokenizer.encode(answer, add_special_tokens=False)
        return encode_continuation(tokenizer, prompt, f" {answer}")

    def text(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of plain text, in no chat template: the token that begins a text, where the tokenizer has one,
        and the others, without an end-of-sequence token."""
        literal = literal_tokenizer(self.tokenizer)
        tokenizer = literal if literal is not None and literal.spelled(text) else self.tokenizer
        ids = list(tokenizer.encode(text))
        if ids and ids[-1] == self.tokenizer.eos_token_id:  # tokenizers that close every text
            del ids[-1]
        begins = bool(ids) and ids[0] == self.tokenizer.bos_token_id
        return ids[:begins], ids[begins:]

    def pairs(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """`pair` for many at once, each text encoded only once: for scoring, where prompts recur."""
        literal = literal_tokenizer(self.tokenizer)
        if literal is not None and literal.spelled(*prompts, *answers):
            return [self.pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        if self.encoder_decoder and not self.chat:
            heads, tails = self._encode_all(prompts), self._encode_all(answers, add_special_tokens=False)
            return [(heads[prompt], tails[answer]) for prompt, answer in zip(prompts, answers, strict=True)]
        contexts = [self.wrap(prompt) for prompt in prompts]
        space = "" if self.chat else " "
        bare = [context.rstrip(" ") for context in contexts]
        whole = [f"{context}{space}{answer}" for context, answer in zip(contexts, answers, strict=True)]
        ids = self._encode_all([*bare, *whole], add_special_tokens=not self.chat)
        end = self.tokenizer.eos_token_id
        return [_split(ids[head], ids[text], end) for head, text in zip(bare, whole, strict=True)]

    def _encode_all(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        unique = list(dict.fromkeys(texts))
        found = self.tokenizer(unique, add_special_tokens=add_special_tokens, return_attention_mask=False)
        return dict(zip(unique, found["input_ids"], strict=True))


def encode_continuation(
    tokenizer: PreTrainedTokenizerBase | LiteralTokenizer,
    context: str,
    continuation: str,
    *,
    add_special_tokens: bool = True,
) -> tuple[list[int], list[int]]:
    """Token ids of a context and of its continuation within the whole text.

    Spaces at the context's end count with the continuation. The continuation's ids are those of the whole
    text after as many as the context alone has (the rule of lm-evaluation-harness).
    """
    bare = context.rstrip(" ")
    continuation = context[len(bare) :] + continuation
    head = tokenizer.encode(bare, add_special_tokens=add_special_tokens)
    whole = tokenizer.encode(bare + continuation, add_special_tokens=add_special_tokens)
    return _split(head, whole, tokenizer.eos_token_id)


def _split(head: list[int], whole: list[int], end: int | None) -> tuple[list[int], list[int]]:
    if whole and head and whole[-1] == end and head[-1] == end:  # tokenizers that close every text
        head, whole = head[:-1], whole[:-1]
    return head, whole[len(head) :]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One training example as tokens.

    Attributes:
        prompt: token ids of the prompt.
        answer: token ids of the answer, ended by the codec's end token unless it is truncated.
        kind: the objective it came from, or `replay`.
        target: code of the target language; empty where there is none.
        truncated: what was lost, of `prompt truncated`, `answer truncated`, `answer without tokens`.
    """

    prompt: list[int]
    answer: list[int]
    kind: str
    target: str
    truncated: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def truncate_pair(
    prompt: list[int], answer: list[int], end: int | None, max_length: int, opening: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Ends an answer with the end token and truncates both to a common length, never the whole answer.

    Where the two are too long together, the answer keeps half of the length, or more where the prompt leaves it;
    its end is truncated. The prompt loses its start, which matters least in instructions, but not its opening.

    Args:
        prompt, answer: token ids.
        end: id of the end-of-sequence token; a truncated answer does not get it, since it does not end there.
        max_length: tokens that prompt and answer may have together.
        opening: what every prompt begins with (`Codec.opening`); a truncated prompt keeps it where that leaves at
            least as much for what follows, and its first token in any case.
    """
    ended = answer if end is None else [*answer, end]
    if len(prompt) + len(ended) <= max_length:
        return prompt, ended
    room = max(max_length // 2, max_length - len(prompt))
    kept = ended[:room]
    left = max_length - len(kept)
    begins = list(opening) if left > 0 and prompt[: len(opening)] == list(opening) else []
    if 2 * len(begins) > left:
        begins = begins[:1]
    left -= len(begins)
    return begins + (prompt[-left:] if left else []), kept


def loss_tokens(prompt: int, answer: int, on_prompt: bool, encoder_decoder: bool) -> int:
    """How many tokens of an example the loss counts; the first token of a sequence is never predicted.

    Args:
        prompt, answer: how many tokens they have.
        on_prompt: whether the prompt's count too (`training.loss_on: all`).
        encoder_decoder: whether the model has an encoder and a decoder; the loss then counts the answer alone.
    """
    if encoder_decoder:
        return answer
    return max(0, prompt + answer - (1 if on_prompt else max(1, prompt)))
