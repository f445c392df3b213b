"""Zero-shot evaluation: every item of every task under every prompt, by the likelihood of the labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.predictions import (
    MANIFEST,
    Journal,
    open_folder,
    prediction_file,
    read_manifest,
    read_predictions,
    write_predictions,
)
from instructalign.evaluation.prompting import Query, make_queries
from instructalign.evaluation.score import CPU_TOKENS, Scores, context_of, plan_batches, score_batch
from instructalign.evaluation.significance import (
    Bootstrap,
    Outcome,
    compare_outcomes,
    outcome_of,
    score_outcomes,
)
from instructalign.evaluation.tasks import Task, absent, load_task, read_items
from instructalign.files import text_hash, write_json
from instructalign.records import Item, Prediction, Score
from instructalign.training.model import LoadedModel, load_configured, model_hash

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""

DIGITS = 6  # of the log-likelihoods kept: beyond them lies what the make-up of a batch can change

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a model on one task.

    Attributes:
        task: the task.
        prompts: ids of the prompts.
        items: the items by language.
        left_out: by language, why it is not evaluated.
    """

    task: Task
    prompts: list[str]
    items: Mapping[str, list[Item]]
    left_out: Mapping[str, str]

    def asked(self) -> list[tuple[str, str, Item]]:
        """Language, prompt and item of every question, in the order of the files."""
        return [
            (language, prompt, item)
            for language, items in self.items.items()
            for prompt in self.prompts
            for item in items
        ]

    def digest(self) -> str:
        """A hash of the questions."""
        items = {language: [asdict(item) for item in some] for language, some in self.items.items()}
        return text_hash([self.task.digest(), self.prompts, items])


def plan_tasks(config: Config) -> list[Plan]:
    """Reads the tasks that a configuration names, with their items.

    A task is read in those of its languages that stand in `languages`, or that `evaluation.languages` names.
    A language without data is left out and said so, unless it was named.

    Raises:
        ConfigError: no task is named.
        UnknownNameError: there is no such task or prompt.
        DataError: data that was asked for is missing or wrong.
    """
    settings = config.evaluation
    if not settings.tasks:
        raise ConfigError(["evaluation.tasks: names no task to evaluate"])
    tasks = [load_task(name) for name in settings.tasks]
    for language in settings.languages or []:
        if not any(language in task.languages for task in tasks):
            raise DataError(
                f"evaluation.languages: {language} is in none of the tasks: "
                f"{', '.join(task.name for task in tasks)}."
            )
    return [_plan(config, task) for task in tasks]


def _plan(config: Config, task: Task) -> Plan:
    settings = config.evaluation
    wanted = settings.languages or [code for codes in config.languages.groups.values() for code in codes]
    items, left_out = {}, {}
    for language in wanted:
        if language not in task.languages:
            continue
        reason = absent(task, settings.data, language)
        if reason and settings.languages:
            raise DataError(f"{task.name} in {language}, which evaluation.languages asks for: {reason}.")
        if reason:
            left_out[language] = reason
            log.warning("%s leaves out %s: %s", task.name, language, reason)
        else:
            items[language] = read_items(task, language, settings.data, settings.items)
    if not items:
        reasons = "; ".join(left_out.values()) or f"the task has only {', '.join(task.languages)}"
        raise DataError(f"{task.name} has no data for the languages of this configuration: {reasons}.")
    return Plan(task, task.choose_prompts(settings.prompts), items, left_out)


def evaluate(
    model: str | Path, config: Config, out: str | Path, *, run: str, progress: Progress | None = None
) -> list[Score]:
    """Evaluates a model on the tasks of a configuration.

    Writes the predictions to `out/predictions`, one file a task and language, and the scores to
    `out/scores.json`. What stands there already from the same model and the same questions is not asked again.

    Args:
        model: a model folder or Hub name.
        config: says which tasks, languages, prompts and scoring.
        out: the folder to write to.
        run: what the scores call the model (`base`, `adapted`).
        progress: told how far each task is.

    Raises:
        ConfigError, UnknownNameError, DataError: a task, its data or a prompt is wrong.
        ModelError: the model cannot be loaded.
        RunFolderError: `out` holds the predictions of another model.
    """
    out = Path(out)
    plans = plan_tasks(config)
    base = str(model)
    revision = config.model.revision if base == config.model.base else None
    identity = {"name": base, "hash": model_hash(base, revision), "dtype": config.model.dtype}
    folder = out / "predictions"
    manifest = open_folder(folder, identity)
    loaded: LoadedModel | None = None
    for plan in plans:
        key = text_hash([plan.digest(), identity["hash"], *_asking(config)])
        if manifest["tasks"].get(plan.task.name, {}).get("key") == key and _complete(folder, plan):
            continue
        if loaded is None:
            loaded = load_configured(config.model, None if base == config.model.base else base)
            _to_device(loaded)
        entry = _answer(loaded, plan, config, folder, key, progress)
        manifest["tasks"][plan.task.name] = entry
        write_json(folder / MANIFEST, manifest)
    scores = score_folder(out, config, run=run)
    write_json(out / "scores.json", {"scores": [asdict(score) for score in scores]})
    return scores


def score_folder(out: Path, config: Config, *, run: str) -> list[Score]:
    """Computes the scores of an evaluation folder from its predictions.

    Args:
        out: a folder that `evaluate` wrote.
        config: gives the languages' groups and the bootstrap.
        run: what the scores call the model.
    """
    bootstrap = Bootstrap(config.evaluation.bootstrap, config.seed)
    scores: list[Score] = []
    for task, outcomes, entry in _outcomes(out):
        sign = _signer(task, entry, _manifest(out)["model"]["hash"], config)
        scores += score_outcomes(outcomes, config.languages.groups, run, bootstrap, sign)
    return scores


def compare(
    base: Path, adapted: Path, config: Config, *, run: str = "adapted", metric: str = "f1_weighted"
) -> list[Score]:
    """What adapting a model changed: gain by language and group, and forgetting on the known languages.

    Args:
        base: folder of the evaluation before.
        adapted: folder of the evaluation after, of the same tasks.
        config: gives the languages' groups and the bootstrap.
        run: what the scores call the adapted model.
        metric: the score that is compared.

    Raises:
        DataError: the two models were not asked the same.
    """
    bootstrap = Bootstrap(config.evaluation.bootstrap, config.seed)
    hashes = [_manifest(folder)["model"]["hash"] for folder in (base, adapted)]
    before = {task: outcomes for task, outcomes, _ in _outcomes(base)}
    scores: list[Score] = []
    for task, outcomes, entry in _outcomes(adapted):
        if task in before:
            sign = _signer(task, entry, "→".join(hashes), config)
            groups = config.languages.groups
            scores += compare_outcomes(before[task], outcomes, groups, run, bootstrap, sign, metric)
    return scores


def _answer(
    loaded: LoadedModel, plan: Plan, config: Config, folder: Path, key: str, progress: Progress | None
) -> dict[str, Any]:
    """Puts a task's questions to the model, writes the predictions, and gives the manifest's entry."""
    context = context_of(loaded)
    asked = plan.asked()
    queries = make_queries(loaded.codec, plan.task, [question[1:] for question in asked], context)
    batches = plan_batches(queries, _budget(loaded, config))
    journal = Journal(folder / f".{plan.task.name}.unfinished", text_hash([key, batches]))
    scores = _score_all(loaded, plan, queries, batches, config, journal, progress)
    rule = config.evaluation.scoring
    predictions = [
        _prediction(plan.task, *question, query, score, rule)
        for question, query, score in zip(asked, queries, scores, strict=True)
    ]
    for path in folder.glob(f"{plan.task.name}.*.jsonl"):
        path.unlink()  # answers to other questions, perhaps in languages that are not asked for now
    for language in plan.items:
        some = [prediction for prediction in predictions if prediction.language == language]
        write_predictions(prediction_file(folder, plan.task.name, language), some)
    cut = sum(query.cut > 0 for query in queries)
    if cut:
        log.warning("%s: %d of %d prompts were cut to fit the model's context", plan.task.name, cut, len(queries))
    journal.close()
    return {
        "key": key,
        "split": plan.task.split,
        "scoring": rule,
        "questions": plan.digest(),
        "prompts": plan.prompts,
        "items": {language: len(items) for language, items in plan.items.items()},
        "left_out": dict(plan.left_out),
        "cut": cut,
        "version": version("instructalign"),
    }


def _score_all(
    loaded: LoadedModel,
    plan: Plan,
    queries: Sequence[Query],
    batches: Sequence[Sequence[int]],
    config: Config,
    journal: Journal,
    progress: Progress | None,
) -> list[Scores]:
    """Scores all questions of a task in one queue, going on behind the batches that a journal has."""
    paper = config.evaluation.scoring == "paper"
    scores: list[Scores | None] = [None] * len(queries)
    done = 0
    for number, batch in enumerate(batches):
        if number not in journal.done:
            chosen = [queries[index] for index in batch]
            journal.add(number, score_batch(loaded, chosen, prompts=paper))
        for index, score in zip(batch, journal.done[number], strict=True):
            scores[index] = score
        done += len(batch)
        if progress:
            progress(plan.task.name, done, len(queries))
    return [score for score in scores if score is not None]


def _prediction(
    task: Task, language: str, prompt: str, item: Item, query: Query, score: Scores, rule: str
) -> Prediction:
    sums = dict(zip(task.labels, (round(value, DIGITS) for value in score.labels), strict=True))
    tokens = dict(zip(task.labels, map(len, query.labels), strict=True))
    before = None if score.prompt is None else round(score.prompt, DIGITS)
    behind = 0 if before is None else len(query.prompt) - 1
    predicted = decide(sums, tokens, rule, before or 0.0, behind)
    return Prediction(
        task.name, language, prompt, item.id, item.label, predicted, sums, tokens, query.cut, before, behind
    )


def decide(
    scores: Mapping[str, float],
    tokens: Mapping[str, int],
    rule: str,
    prompt_score: float = 0.0,
    prompt_tokens: int = 0,
) -> str:
    """The label with the highest score; the first of them where several have it.

    Args:
        scores: by label, the summed log-likelihood of its tokens.
        tokens: by label, how many they are.
        rule: `sum`; `mean`, the sum over the number of tokens; or `paper`, the mean over the tokens of prompt
            and label together, as the published scripts have it (for encoder-decoder models: of the label).
        prompt_score: the summed log-likelihood of the prompt's tokens, for `paper`.
        prompt_tokens: how many they are.
    """
    if rule == "sum":
        return max(scores, key=lambda label: scores[label])
    return max(scores, key=lambda label: (prompt_score + scores[label]) / (prompt_tokens + tokens[label]))


def _outcomes(out: Path) -> list[tuple[str, list[Outcome], Mapping[str, Any]]]:
    """The answers in an evaluation folder, by task, with the manifest's entry."""
    folder = out / "predictions"
    return [
        (
            task,
            [outcome_of(read_predictions(prediction_file(folder, task, code))) for code in entry["items"]],
            entry,
        )
        for task, entry in _manifest(out)["tasks"].items()
    ]


def _manifest(out: Path) -> dict[str, Any]:
    manifest = read_manifest(out / "predictions")
    if not manifest:
        raise DataError(f"{out / 'predictions'} holds no predictions; `instructalign evaluate` writes them.")
    return manifest


def _signer(task: str, entry: Mapping[str, Any], model: str, config: Config) -> Callable[[Sequence[Outcome]], str]:
    def sign(outcomes: Sequence[Outcome]) -> str:
        parts = {
            "task": task,
            "split": entry["split"],
            "languages": "+".join(outcome.language for outcome in outcomes),
            "n": "+".join(str(len(outcome.items)) for outcome in outcomes),
            "prompts": "+".join(entry["prompts"]),
            "scoring": entry["scoring"],
            "questions": entry["questions"][:8],
            "bootstrap": config.evaluation.bootstrap,
            "model": model,
            "version": entry["version"],
        }
        return "|".join(f"{key}:{value}" for key, value in parts.items())

    return sign


def _asking(config: Config) -> list[Any]:
    """What else, beside model and questions, the answers depend on."""
    model = config.model
    return [config.evaluation.scoring, model.dtype, model.chat, model.system_prompt]


def _complete(folder: Path, plan: Plan) -> bool:
    return all(prediction_file(folder, plan.task.name, language).exists() for language in plan.items)


def _budget(loaded: LoadedModel, config: Config) -> int:
    """Tokens that a batch may have on the model's device."""
    most = config.evaluation.batch_tokens
    return min(most, CPU_TOKENS) if loaded.model.device.type == "cpu" else most


def _to_device(loaded: LoadedModel) -> None:
    import torch

    if torch.cuda.is_available():
        loaded.model.to("cuda")  # type: ignore[arg-type]
