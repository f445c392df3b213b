"""One queue for all that a task asks: batches by length, shared by all processes, kept in a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from instructalign.config import Config
from instructalign.evaluation.predictions import Journal
from instructalign.evaluation.processes import joined, processes
from instructalign.evaluation.prompting import Query
from instructalign.evaluation.score import CPU_TOKENS, Scores, plan_batches, score_batch
from instructalign.files import text_hash
from instructalign.training.model import LoadedModel

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""


def score_queue(
    loaded: LoadedModel,
    task: str,
    queries: Sequence[Query],
    config: Config,
    folder: Path,
    key: str,
    progress: Progress | None,
    *,
    prompts: bool = False,
) -> tuple[list[Scores], Journal]:
    """Scores all queries of a task, going on behind the batches that a journal has.

    Batches are the same for any number of processes, and so are the scores.

    Args:
        loaded: the model.
        task: what the journal and the progress call it.
        queries: all of them, with the same number of labels each.
        config: says how large a batch may be.
        folder: where the journal stands.
        key: names model and questions; a journal of another key is not gone on with.
        progress: told how far it is.
        prompts: whether the likelihood of the prompts is wanted too.

    Returns:
        The scores, in every process; and the journal, to be closed when they are on disk.
    """
    batches = plan_batches(queries, batch_budget(loaded, config.evaluation.batch_tokens, prompts))
    journal = Journal(folder / f".{task}.unfinished", text_hash([key, batches]))
    together = processes()
    left = [number for number in range(len(batches)) if number not in journal.done]
    done = sum(len(batches[number]) for number in journal.done)
    for number in left[together.process_index :: together.num_processes]:
        chosen = [queries[index] for index in batches[number]]
        journal.add(number, score_batch(loaded, chosen, prompts=prompts))
        done += len(chosen) * together.num_processes  # the others are about as far
        if progress:
            progress(task, min(done, len(queries)), len(queries))
    every = joined(journal.done)
    by_query = {
        index: score
        for number, batch in enumerate(batches)
        for index, score in zip(batch, every[number], strict=True)
    }
    return [by_query[index] for index in range(len(queries))], journal


def batch_budget(loaded: LoadedModel, most: int, prompts: bool) -> int:
    """Tokens that a batch may have: few where caches are small, or where every token needs its logits."""
    return min(most, CPU_TOKENS) if prompts or loaded.model.device.type == "cpu" else most
