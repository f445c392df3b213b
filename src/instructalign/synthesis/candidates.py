"""Candidates for replay data: the model writes instructions, answers them, and the good ones are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from instructalign.data.deduplication import find_near
from instructalign.data.normalization import fingerprint, shingles
from instructalign.randomness import Draws, digest_key
from instructalign.synthesis.seed_prompts import SeedPrompts
from instructalign.training.tokenization import Codec, encode_continuation
from instructalign.types import ParallelRow

if TYPE_CHECKING:
    from instructalign.training.models import LoadedModel

SynthesisMethod = Literal["complete", "imitate", "answer"]

_BATCH_TOKENS = 16_384
_PLACEHOLDER = "\u2603"  # marks where the user's turn begins; any text that no chat template changes
_MIN_DISTINCT = 0.5  # distinct 5-grams of characters by their number; texts that loop have far fewer
_COPIED = 0.8  # Jaccard similarity of answer and instruction from which the one is a copy of the other


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How a model writes its examples.

    Attributes:
        method: `complete` seed prompts, `imitate` instructions, or `answer` instructions as they are.
        seeds: the seed prompts, and how a model is asked.
        prompts: the instructions to imitate or to answer.
        shots: how many instructions are shown at a time to be imitated.
        temperature, top_k: of the sampling of instructions; answers are decoded greedily.
        instruction_tokens, answer_tokens: maximum lengths.
        seed: of the sampling.
    """

    method: SynthesisMethod
    seeds: SeedPrompts
    prompts: Sequence[str]
    shots: int
    temperature: float
    top_k: int
    instruction_tokens: int
    answer_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example as the model wrote it.

    Attributes:
        attempt: its number.
        seed: the seed prompt it started from.
        prompt: the instruction.
        added: the part of the instruction that the model wrote.
        answer: the answer.
        likelihood: mean log-likelihood of the answer's tokens under the model, in nats.
        defect: why it cannot be used, as far as generation shows; empty otherwise.
    """

    attempt: int
    seed: str
    prompt: str
    added: str
    answer: str = ""
    likelihood: float = 0.0
    defect: str = ""


def write_candidates(loaded: LoadedModel, sampling: SamplingConfig, attempts: Sequence[int]) -> list[Candidate]:
    """The candidates of some attempts: each a function of the model, the configuration and the attempt's number.

    Args:
        loaded: the model.
        sampling: how it writes.
        attempts: their numbers.
    """
    from instructalign.training.generation import Sampling, generate

    if sampling.method == "answer":
        candidates = [Candidate(n, "answered", sampling.prompts[n], sampling.prompts[n]) for n in attempts]
    else:
        contexts = [_context(loaded.codec, sampling, attempt) for attempt in attempts]
        written = generate(
            loaded,
            [each.ids for each in contexts],
            sampling.instruction_tokens,
            _BATCH_TOKENS,
            sampling=Sampling(digest_key(sampling.seed, "self-made"), sampling.temperature, sampling.top_k),
            streams=attempts,
        )
        candidates = [
            _instruction(loaded.codec, attempt, context, new.tokens, new.finished)
            for attempt, context, new in zip(attempts, contexts, written, strict=True)
        ]
    prompts = [loaded.codec.pair(each.prompt, "")[0] for each in candidates if not each.defect]
    answers = iter(generate(loaded, prompts, sampling.answer_tokens, _BATCH_TOKENS) if prompts else [])
    for place, candidate in enumerate(candidates):
        if not candidate.defect:
            new = next(answers)
            text = str(loaded.codec.tokenizer.decode(new.tokens, skip_special_tokens=True)).strip()
            defect = "" if new.finished else "answer unfinished"
            candidates[place] = replace(candidate, answer=text, likelihood=round(new.likelihood, 4), defect=defect)
    return candidates


@dataclass(frozen=True, slots=True)
class _Context:
    """What the model continues with an instruction.

    Attributes:
        seed: the seed prompt, for the record.
        ids: the tokens that the model reads.
        begin: how the instruction begins.
        end: the text that ends it, if any.
    """

    seed: str
    ids: list[int]
    begin: str = ""
    end: str | None = None


def _context(codec: Codec, sampling: SamplingConfig, attempt: int) -> _Context:
    draws = Draws(digest_key(sampling.seed, "self-made seeds"), attempt)
    if sampling.method == "imitate":
        order = list(sampling.prompts)
        draws.shuffle(order)
        lines = "\n".join(f"- {' '.join(prompt.split())}" for prompt in order[: sampling.shots])
        if codec.chat or codec.encoder_decoder:
            return _Context("imitated", codec.pair(sampling.seeds.imitate.format(examples=lines), "")[0])
        return _Context("imitated", codec.pair(f"{lines}\n-", "")[0])
    seed = draws.choice(sampling.seeds.seeds)
    if codec.encoder_decoder:
        request = sampling.seeds.complete.format(seed=seed.begin)
        return _Context(seed.begin, codec.pair(request, "")[0], "", seed.end)
    if not codec.chat:
        return _Context(seed.begin, codec.pair(seed.begin, "")[0], seed.begin, seed.end)
    # A chat model writes the user's turn: Xu et al. 2024, "Magpie" (arXiv 2406.08464).
    turn = codec.wrap(_PLACEHOLDER).partition(_PLACEHOLDER)[0]
    ids, _ = encode_continuation(codec.tokenizer, turn + seed.begin, "", add_special_tokens=False)
    return _Context(seed.begin, ids, seed.begin, seed.end)


def _instruction(codec: Codec, attempt: int, context: _Context, tokens: list[int], finished: bool) -> Candidate:
    """The instruction in what the model wrote: the first line, up to the text that ends it."""
    tokenizer, before = codec.tokenizer, [] if codec.encoder_decoder else context.ids
    whole = str(tokenizer.decode([*before, *tokens], skip_special_tokens=True))
    text = whole[len(str(tokenizer.decode(before, skip_special_tokens=True))) :]
    line = text if context.begin else text.lstrip("\n")
    line, newline, _ = line.partition("\n")
    defect = "" if finished or newline else "instruction unfinished"
    if context.end is not None:
        line, end, _ = line.partition(context.end)
        defect = "" if end else "instruction without its end"
        line += end
    prompt = (context.begin + line).strip().removeprefix("- ")
    if not defect and not line.strip():
        defect = "nothing added to the seed prompt"
    return Candidate(attempt, context.seed, prompt, line.strip(), defect=defect)


def defect_of(candidate: Candidate, likelihood: float, words: int) -> str:
    """Why a candidate cannot be used, judged by itself; empty if it can.

    Args:
        candidate: the candidate.
        likelihood: the minimum mean log-likelihood of its answer, in nats per token.
        words: the minimum number of words of its instruction.
    """
    if candidate.defect:
        return candidate.defect
    if len(fingerprint(candidate.prompt).split()) < words:
        return "instruction too short"
    if not candidate.answer:
        return "answer empty"
    if loops(candidate.prompt) or loops(candidate.answer):
        return "repeats itself"
    if copies(candidate.prompt, candidate.answer):
        return "answer copies the instruction"
    return "answer unlikely" if candidate.likelihood < likelihood else ""


def loops(text: str) -> bool:
    """Whether a text repeats the same few words."""
    grams = len(text) - 4
    return grams > 20 and len(shingles(text)) < _MIN_DISTINCT * grams


def copies(one: str, other: str) -> bool:
    """Whether two texts are the same but for a few words, case and punctuation."""
    here, there = shingles(fingerprint(one)), shingles(fingerprint(other))
    return len(here & there) >= _COPIED * len(here | there)


def filter_candidates(
    candidates: Sequence[Candidate], likelihood: float, words: int
) -> list[tuple[Candidate, str]]:
    """Each candidate in order, with its defect; a near-duplicate is one of an earlier good candidate.

    More candidates do not change the outcome for the first ones.
    """
    defects = {each.attempt: defect_of(each, likelihood, words) for each in candidates}
    good = [each for each in candidates if not defects[each.attempt]]
    rows = [ParallelRow(str(each.attempt), {"q": each.added or each.prompt, "r": each.answer}) for each in good]
    for index, _ in find_near(rows):
        defects[good[index].attempt] = "near-duplicate"
    return [(each, defects[each.attempt]) for each in candidates]
