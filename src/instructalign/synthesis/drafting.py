"""The model at work: it writes instructions, then answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from instructalign.randomness import Draws, digest_key
from instructalign.synthesis.filtering import Draft
from instructalign.synthesis.seed_prompts import Seed, Seeds
from instructalign.training.tokenization import Codec, encode_continuation

if TYPE_CHECKING:
    from instructalign.training.generation import Generated
    from instructalign.training.models import LoadedModel

Method = Literal["complete", "imitate", "answer"]
BATCH_TOKENS = 16_384
_PLACE = "\u2603"  # stands where the user's turn begins; any text that no template changes


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model writes its examples.

    Attributes:
        method: whether it completes beginnings, imitates instructions, or answers instructions as they are.
        seeds: the beginnings, and how a model is asked.
        prompts: the instructions to imitate or to answer.
        shots: how many instructions it imitates at a time.
        temperature, top_k: how instructions are drawn; answers are always the likeliest.
        instruction_tokens, answer_tokens: how long they may be.
        seed: of the draws.
    """

    method: Method
    seeds: Seeds
    prompts: Sequence[str]
    shots: int
    temperature: float
    top_k: int
    instruction_tokens: int
    answer_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What stands before an instruction that the model is to write.

    Attributes:
        seed: what it was made from, for the record.
        ids: what the model reads.
        begin: what the instruction begins with.
        end: the text that ends it, if it has one.
    """

    seed: str
    ids: list[int]
    begin: str = ""
    end: str | None = None


def write_drafts(loaded: LoadedModel, manner: Manner, attempts: Sequence[int]) -> list[Draft]:
    """The examples of some attempts: each a function of the model, the manner and the attempt's number.

    Args:
        loaded: the model.
        manner: how it writes.
        attempts: their numbers.
    """
    from instructalign.training.generation import generate

    if manner.method == "answer":
        begun = [Draft(n, "answered", manner.prompts[n], manner.prompts[n], "", 0.0) for n in attempts]
    else:
        begun = _instructions(loaded, manner, attempts)
    asked = [draft for draft in begun if not draft.flaw]
    contexts = [loaded.codec.pair(draft.prompt, "")[0] for draft in asked]
    answers = iter(generate(loaded, contexts, manner.answer_tokens, BATCH_TOKENS) if asked else [])
    return [draft if draft.flaw else _answered(loaded.codec, draft, next(answers)) for draft in begun]


def _answered(codec: Codec, draft: Draft, written: Generated) -> Draft:
    text = str(codec.tokenizer.decode(written.tokens, skip_special_tokens=True)).strip()
    flaw = "" if written.finished else "answer unfinished"
    likelihood = round(written.likelihood, 4)
    return Draft(draft.attempt, draft.seed, draft.prompt, draft.added, text, likelihood, flaw)


def _instructions(loaded: LoadedModel, manner: Manner, attempts: Sequence[int]) -> list[Draft]:
    from instructalign.training.generation import Sampling, generate

    asked = [_ask(loaded.codec, manner, attempt) for attempt in attempts]
    sampling = Sampling(digest_key(manner.seed, "self-made"), manner.temperature, manner.top_k)
    written = generate(
        loaded,
        [each.ids for each in asked],
        manner.instruction_tokens,
        BATCH_TOKENS,
        sampling=sampling,
        streams=attempts,
    )
    return [
        _instruction(loaded.codec, attempt, each, text)
        for attempt, each, text in zip(attempts, asked, written, strict=True)
    ]


def _ask(codec: Codec, manner: Manner, attempt: int) -> _Asked:
    """What the model is given to write its next instruction behind."""
    draws = Draws(digest_key(manner.seed, "self-made seeds"), attempt)
    if manner.method == "imitate":
        order = list(manner.prompts)
        draws.shuffle(order)
        lines = "\n".join(f"- {' '.join(prompt.split())}" for prompt in order[: manner.shots])
        if codec.chat or codec.encoder_decoder:
            return _Asked("imitated", codec.pair(manner.seeds.imitate.format(examples=lines), "")[0])
        return _Asked("imitated", codec.pair(f"{lines}\n-", "")[0])
    seed: Seed = draws.choice(manner.seeds.seeds)
    if codec.encoder_decoder:
        return _Asked(seed.begin, codec.pair(manner.seeds.complete.format(seed=seed.begin), "")[0], "", seed.end)
    if not codec.chat:
        return _Asked(seed.begin, codec.pair(seed.begin, "")[0], seed.begin, seed.end)
    # A chat model writes the user's turn: Xu et al. 2024, "Magpie" (arXiv 2406.08464).
    turn = codec.wrap(_PLACE).partition(_PLACE)[0]
    ids, _ = encode_continuation(codec.tokenizer, turn + seed.begin, "", add_special_tokens=False)
    return _Asked(seed.begin, ids, seed.begin, seed.end)


def _instruction(codec: Codec, attempt: int, asked: _Asked, written: Generated) -> Draft:
    """The instruction that came of it: its first line, or as far as its end."""
    tokenizer, before = codec.tokenizer, [] if codec.encoder_decoder else asked.ids
    whole = str(tokenizer.decode([*before, *written.tokens], skip_special_tokens=True))
    text = whole[len(str(tokenizer.decode(before, skip_special_tokens=True))) :]
    line = text if asked.begin else text.lstrip("\n")
    line, broken, _ = line.partition("\n")
    flaw = "" if written.finished or broken else "instruction unfinished"
    if asked.end is not None:
        line, end, _ = line.partition(asked.end)
        flaw = "" if end else "instruction without its end"
        line += end
    prompt = (asked.begin + line).strip().removeprefix("- ")
    if not flaw and not line.strip():
        flaw = "nothing added to the beginning"
    return Draft(attempt, asked.seed, prompt, line.strip(), "", 0.0, flaw)
