"""Open questions: a model writes its answers, which are compared with the right ones.

Exact match and token F1 are those of SQuAD (Rajpurkar et al. 2016) after its normalisation, with the punctuation
of every script (as MLQA, Lewis et al. 2020), and with articles left out in English alone. A token is what SQuAD
takes for one, and in scripts without spaces between words a syllable or a character. chrF++ (Popović 2017) is for
answers of a sentence or more. Of several references, the one that an answer is nearest to counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.bootstrap import BootstrapScores, Sample, ratio
from instructalign.evaluation.classification import FileRecords, plan_entry
from instructalign.evaluation.mt_metrics import corpus_score
from instructalign.evaluation.predictions import OpenAnswer
from instructalign.evaluation.prompting import make_queries
from instructalign.evaluation.task_selection import TaskPlan
from instructalign.evaluation.tasks import Generation
from instructalign.instructions.segmentation import words
from instructalign.training.generation import decode_until, generate_batch, plan_generation
from instructalign.training.models import LoadedModel


def write_answers(
    loaded: LoadedModel, plan: TaskPlan[Generation], config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """Answers open questions, greedily: the lines of a task's files, and what the manifest notes of them.

    Raises:
        DataError: a question leaves no room for an answer in the model's context.
    """
    task, questions = plan.task, plan.questions()
    asked = [(prompt, item, plan.examples.get(language, ())) for language, prompt, item in questions]
    context = None if loaded.encoder_decoder or not loaded.codec.context else loaded.codec.context - task.tokens
    queries = make_queries(loaded.codec, task, asked, loaded.codec.context if context is None else context)
    prompts = [query.prompt for query in queries]

    def write(batch: list[int]) -> list[tuple[str, bool]]:
        chosen = [prompts[index] for index in batch]
        written = generate_batch(loaded, chosen, task.tokens, stops=task.stop)
        return [decode_until(loaded.tokenizer, each, task.stop) for each in written]

    batches = plan_generation(loaded, prompts, task.tokens, config.evaluation.batch_tokens)
    records: dict[str, list[dict[str, Any]]] = {language: [] for language in plan.items}
    for (language, prompt, item), query, (answer, unfinished) in zip(
        questions, queries, runner.run(batches, write), strict=True
    ):
        text = "\n".join(item.fields.values())
        place = (task.name, language, prompt, item.id, text, item.references)
        records[language].append(asdict(OpenAnswer(*place, answer, query.truncated, unfinished)))
    unfinished = sum(record["unfinished"] for some in records.values() for record in some)
    truncated = sum(query.truncated > 0 for query in queries)
    return [*records.values()], plan_entry(plan, config, truncated, unfinished=unfinished)


# -- metrics -------------------------------------------------------------------------------------------------


def normalise_answer(text: str, language: str) -> str:
    """An answer without case, punctuation, needless white space and, in English, articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    if language == "eng":
        text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact_match(answer: str, reference: str, language: str) -> float:
    """1 where two answers are the same after normalisation, else 0."""
    return float(normalise_answer(answer, language) == normalise_answer(reference, language))


def token_f1(answer: str, reference: str, language: str) -> float:
    """The harmonic mean of the shares of each answer's tokens that the other has; 1 for two without tokens."""
    ours, theirs = (
        Counter(token for part in normalise_answer(text, language).split() for token in words(part) or [part])
        for text in (answer, reference)
    )
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


ANSWER_METRICS: Mapping[str, Callable[[str, str, str], float] | None] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "chrf": None,
}
"""The metrics of open questions; chrF++ is computed over all items, by sacrebleu."""


def sample_of_open_answers(records: Sequence[OpenAnswer], metric: str) -> tuple[Sample, dict[str, str]]:
    """Answers to one task in one language under a metric of `ANSWER_METRICS`, and what its signature adds."""
    first, measure = records[0], ANSWER_METRICS[metric]
    prompts = tuple(dict.fromkeys(record.prompt for record in records))
    items = tuple(dict.fromkeys(record.item for record in records))
    how = {"answers": "normalised as in SQuAD"}
    score: Callable[[NDArray[np.float64]], BootstrapScores] = ratio
    if measure is None:
        from sacrebleu.metrics.chrf import CHRF

        scorer: Any = CHRF(word_order=2)
        references = list(map(list, zip_longest(*(record.references for record in records))))
        texts = [record.answer for record in records]
        found = scorer._extract_corpus_statistics(texts, references)  # as in mt_metrics.measure
        score, how = partial(corpus_score, scorer), {"sacrebleu": str(scorer.get_signature())}
    else:
        found = [[max(measure(r.answer, each, r.language) for each in r.references), 1] for r in records]
    statistics = np.array(found, dtype=np.float64).reshape(len(prompts), len(items), -1)
    return Sample(first.task, first.language, prompts, items, statistics, score), how
