"""Likelihood of held-out instructions: which are asked, how they are answered, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, Sample, Signature, Values, score_rows, signer
from instructalign.evaluation.classification import DIGITS, Progress, score_queue
from instructalign.evaluation.decision_rules import decide
from instructalign.evaluation.likelihood import Scores
from instructalign.evaluation.paired_tests import compare_samples
from instructalign.evaluation.predictions import (
    MANIFEST,
    asking,
    forget,
    open_folder,
    prediction_file,
    read_manifest,
    write_predictions,
)
from instructalign.evaluation.processes import from_first, processes
from instructalign.evaluation.prompting import Query
from instructalign.evaluation.task_selection import HeldOutInstructions
from instructalign.files import read_jsonl, text_hash, write_json, write_jsonl
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel, context_length
from instructalign.training.tokenization import truncate_pair
from instructalign.types import Instruction, Prediction, Score

PROMPT = "stream"
"""What stands for the prompt where each item has a wording of its own."""

SMALLEST_PART = 20
"""Items that a part must have in a language to be scored alone; with fewer, an interval says nothing."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How likely a model found the right answer to an open question.

    Attributes:
        task, language, item: what was asked.
        prompt, answer: the texts.
        score: the summed log-likelihood of the answer's tokens, in nats.
        tokens: how many they are, the end of the text included.
        cut: whether prompt or answer was cut to fit the model's context.
        part: what the item is scored with alone as well; of past data, the task that its source names.
    """

    task: str
    language: str
    item: str
    prompt: str
    answer: str
    score: float
    tokens: int
    cut: bool = False
    part: str = ""

    def line(self) -> dict[str, Any]:
        """The answer as it is written."""
        return {name: value for name, value in asdict(self).items() if name != "part" or value}


def read_answers(path: Path) -> list[Answered]:
    """Reads a file of answers to open questions.

    Raises:
        DataError: a line is not one, or there is none; the message names the file.
    """
    records = []
    for number, record in read_jsonl(path):
        try:
            records.append(Answered(**record))
        except TypeError:
            raise DataError(f"{path}:{number}: not an answer to an instruction.") from None
    if not records:
        raise DataError(f"{path} holds no answers; delete the folder to evaluate anew.")
    return records


def samples_of(task: str, answers: Mapping[str, Sequence[Answered]]) -> dict[str, dict[str, Sample]]:
    """A task's answers by language as samples: of the whole task, and behind it of its parts.

    A part is there in the languages where it has `SMALLEST_PART` items; not where it would be the whole.
    """
    found = {task: answers}
    names = sorted({each.part for some in answers.values() for each in some})
    for name in names if len(names) > 1 else ():
        parts = {code: [each for each in some if each.part == name] for code, some in answers.items()}
        large = {code: some for code, some in parts.items() if len(some) >= SMALLEST_PART}
        if name and large:
            found[f"{task}-{name}"] = large
    return {
        name: {code: replace(sample_of_answers(some), task=name) for code, some in by_language.items()}
        for name, by_language in found.items()
    }


def sample_of_answers(records: Sequence[Answered]) -> Sample:
    """Open questions of one language as sums of log-likelihoods and tokens."""
    statistics = np.array([[[record.score, record.tokens] for record in records]])
    items = tuple(record.item for record in records)
    return Sample(records[0].task, records[0].language, (PROMPT,), items, statistics, token_probability)


def token_probability(sums: NDArray[np.float64]) -> Values:
    """e to the power of (log-likelihood over tokens); `sums` [..., 2] holds the two."""
    result: Values = np.exp(sums[..., 0] / sums[..., 1])
    return result


def ask_heldout(
    load: Callable[[], LoadedModel],
    plans: Sequence[HeldOutInstructions],
    config: Config,
    out: Path,
    identity: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Asks what is not answered yet: closed questions into `out/predictions`, open ones into `out/instructions`.

    Args:
        load: gives the model, where it is needed.
        plans: what to ask.
        config: says how large a batch may be.
        out: the evaluation's folder.
        identity: `name` and `hash` of the model.
        progress: told how far it is.

    Raises:
        RunFolderError: the folder holds answers of another model.
    """
    first = processes().is_main_process
    for folder, some in (
        (out / "predictions", [plan for plan in plans if plan.labels]),
        (out / "instructions", [plan for plan in plans if not plan.labels]),
    ):
        if not some:
            continue
        keys = {plan.name: text_hash([plan.digest(), identity["hash"], *asking(config)]) for plan in some}
        manifest = open_folder(folder, identity) if first else {"tasks": {}}
        there = [plan for plan in some if manifest["tasks"].get(plan.name, {}).get("key") == keys[plan.name]]
        done = from_first([plan.name for plan in there if _is_complete(folder, plan)])
        for plan in some:
            if plan.name in done:
                continue
            if first:
                forget(folder, manifest, plan.name)
            ask = _ask_closed if plan.labels else _ask_open
            manifest["tasks"][plan.name] = ask(load(), plan, config, folder, keys[plan.name], progress)
            if first:
                write_json(folder / MANIFEST, manifest)


def _is_complete(folder: Path, plan: HeldOutInstructions) -> bool:
    return all((folder / file).exists() for file in plan.files)


def _ask_open(
    loaded: LoadedModel,
    plan: HeldOutInstructions,
    config: Config,
    folder: Path,
    key: str,
    progress: Progress | None,
) -> dict[str, Any]:
    encoder = ExampleEncoder(loaded.codec, context_length(loaded) or 1 << 30)
    each = plan.questions()
    encoded = [encoder(made) for _, _, made in each]
    queries = [Query(tuple(ids.prompt), (tuple(ids.answer),)) for ids, _ in encoded]
    scores, journal = score_queue(loaded, plan.name, queries, config, folder, key, progress)
    if processes().is_main_process:
        records = [
            Answered(
                plan.name,
                code,
                str(number),
                made.prompt,
                made.answer,
                round(score.labels[0], DIGITS),
                len(query.labels[0]),
                bool(cuts),
                made.template if plan.by_template else "",
            )
            for (code, number, made), query, score, (_, cuts) in zip(each, queries, scores, encoded, strict=True)
        ]
        for code in plan.instructions:
            some = (record.line() for record in records if record.language == code)
            write_jsonl(prediction_file(folder, plan.name, code), some)
        journal.close()
    return _entry(loaded, plan, key, sum(bool(cuts) for _, cuts in encoded))


def _ask_closed(
    loaded: LoadedModel,
    plan: HeldOutInstructions,
    config: Config,
    folder: Path,
    key: str,
    progress: Progress | None,
) -> dict[str, Any]:
    each = plan.questions()
    words = [plan.labels[made.template] for _, _, made in each]
    queries = [_closed(loaded, made, word) for (_, _, made), word in zip(each, words, strict=True)]
    scores, journal = score_queue(loaded, plan.name, queries, config, folder, key, progress)
    if processes().is_main_process:
        predictions = [
            _prediction(plan.name, *question, word, query, score)
            for question, word, query, score in zip(each, words, queries, scores, strict=True)
        ]
        for code in plan.instructions:
            some = [prediction for prediction in predictions if prediction.language == code]
            write_predictions(prediction_file(folder, plan.name, code), some)
        journal.close()
    return {**_entry(loaded, plan, key, sum(query.cut > 0 for query in queries)), "scoring": "sum"}


def _closed(loaded: LoadedModel, made: Instruction, words: Mapping[str, str]) -> Query:
    """A closed question with each of its answers; of a prompt that is too long, the beginning is cut."""
    pairs = loaded.codec.pairs([made.prompt] * len(words), list(words.values()))
    labels = tuple(tuple(label) for _, label in pairs)
    for label, word in zip(labels, words.values(), strict=True):
        if not label:
            raise DataError(
                f"the answer {word!r} of the template {made.template} has no tokens behind its prompt."
            )
    whole = pairs[0][0]
    limit = context_length(loaded)
    if limit is None:
        return Query(tuple(whole), labels)
    behind = (
        []
        if loaded.encoder_decoder
        else list(labels[max(range(len(labels)), key=lambda place: len(labels[place]))])
    )
    prompt, _ = truncate_pair(whole, behind, None, limit, loaded.codec.opening())
    return Query(tuple(prompt), labels, cut=len(whole) - len(prompt))


def _prediction(
    task: str, code: str, number: int, made: Instruction, words: Mapping[str, str], query: Query, score: Scores
) -> Prediction:
    gold = next(label for label, word in words.items() if word == made.answer)
    sums = dict(zip(words, (round(value, DIGITS) for value in score.labels), strict=True))
    tokens = dict(zip(words, map(len, query.labels), strict=True))
    lengths = {label: len(word.encode()) for label, word in words.items()}
    asked = Prediction(task, code, PROMPT, str(number), gold, "", sums, tokens, query.cut, bytes=lengths)
    return Prediction(
        **{**{name: getattr(asked, name) for name in asked.__slots__}, "predicted": decide(asked, "sum")}
    )


def _entry(loaded: LoadedModel, plan: HeldOutInstructions, key: str, cut: int) -> dict[str, Any]:
    return {
        "key": key,
        "split": "held-out",
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "questions": plan.digest(),
        "prompts": [PROMPT],
        "items": {code: len(some) for code, some in plan.instructions.items()},
        "left_out": {},
        "cut": cut,
        "version": version("instructalign"),
    }


METRIC = "token_probability"


def score_heldout(out: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap) -> list[Score]:
    """The scores of the open questions in an evaluation's folder, by language and by group.

    Returns:
        `token_probability`, the geometric mean of the probabilities of the answers' tokens: e to the power of
        minus the loss on them, between 0 and 1.
    """
    scores: list[Score] = []
    for samples, sign in _read_folder(out, bootstrap.rounds).values():
        values = {sample.language: bootstrap.by_prompt(sample).mean(0) for sample in samples}
        scores += score_rows(samples, values, groups, run, METRIC, sign)
    return scores


def compare_heldout(
    base: Path, adapted: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap
) -> list[Score]:
    """What adapting a model changed on the open questions of two folders; see `paired.compare_samples`."""
    before = _read_folder(base, bootstrap.rounds)
    scores: list[Score] = []
    for task, (samples, sign) in _read_folder(adapted, bootstrap.rounds).items():
        if task in before:
            scores += compare_samples(before[task][0], samples, groups, run, bootstrap, sign, METRIC)
    return scores


def _read_folder(out: Path, rounds: int) -> dict[str, tuple[list[Sample], Signature]]:
    """By task, and by part of one, the answers in every language and what signs their scores."""
    folder = out / "instructions"
    manifest = read_manifest(folder)
    found = {}
    for task, entry in manifest.get("tasks", {}).items():
        answers = {code: read_answers(prediction_file(folder, task, code)) for code in entry["items"]}
        for name, samples in samples_of(task, answers).items():
            sign = signer(entry, model=manifest["model"]["hash"], bootstrap=rounds)
            found[name] = list(samples.values()), sign
    return found
