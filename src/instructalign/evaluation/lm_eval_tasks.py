"""Tasks of lm-evaluation-harness in our evaluation: `evaluation.tasks: [lm-eval:NAME]`.

The harness makes the prompts, filters the answers and scores each item. Our scorer answers, and our bootstrap
makes intervals and tests from the items' scores. The harness is imported where a task is read.
"""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from langcodes import Language
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.data import ItemText
from instructalign.errors import DataError, ModelError, UnknownNameError
from instructalign.evaluation.bootstrap import BootstrapScores, Sample, ratio
from instructalign.evaluation.mt_metrics import corpus_score
from instructalign.evaluation.predictions import prediction_file
from instructalign.evaluation.task_items import choose_items
from instructalign.evaluation.tasks import HarnessTask
from instructalign.files import read_jsonl, text_hash
from instructalign.languages import english_name, is_private

if TYPE_CHECKING:
    from instructalign.evaluation.batch_runner import BatchRunner
    from instructalign.training.models import LoadedModel

log = logging.getLogger(__name__)

_PROMPT = "lm-eval"  # the prompt id of its items
# The defaults of the harness's command line: of few-shot examples and of numpy; Python's own has 0.
_SEED = 1234
_BATCH = 128  # documents that are journaled together
_CORPUS = {"bleu": "bleu", "chrf": "chrf2"}  # metrics over all items, from pairs of texts, and our names for them

Records = Sequence[Mapping[str, Any]]
"""The lines of a file of the harness's items."""


def require_harness() -> None:
    """Raises a ModelError where lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        raise ModelError("lm-evaluation-harness is not installed: pip install 'instructalign[lm-eval]'")


@dataclass(frozen=True, slots=True)
class HarnessPlan:
    """The items of one task of the harness, in the languages of a configuration.

    Attributes:
        task: the task.
        units: by language, what the harness calls its task or group.
        tasks: by language, the harness's tasks by name; several where it is a group.
        chosen: by the harness's task, the indices of the items asked.
    """

    task: HarnessTask
    units: Mapping[str, str]
    tasks: Mapping[str, Mapping[str, Any]]
    chosen: Mapping[str, Sequence[int]]

    @property
    def name(self) -> str:
        """What manifests, files and scores call it."""
        return self.task.name

    @property
    def items(self) -> dict[str, int]:
        """By language, the number of items."""
        return {code: sum(len(self.chosen[name]) for name in tasks) for code, tasks in self.tasks.items()}

    def paths(self, folder: Path) -> list[Path]:
        """The files of its answers, one per language."""
        return [prediction_file(folder, self.name, language) for language in self.tasks]

    def documents(self) -> Iterator[tuple[str, str, Any]]:
        """Language, id and document of every item."""
        for language, tasks in self.tasks.items():
            for name, task in tasks.items():
                for index in self.chosen[name]:
                    yield language, _item_id(tasks, name, index), task.eval_docs[index]

    def digest(self) -> str:
        """A hash of the questions."""
        plain = {
            name: {key: value for key, value in task.dump_config().items() if isinstance(value, (str, int, float))}
            for tasks in self.tasks.values()
            for name, task in tasks.items()
        }
        documents = json.dumps([*self.documents()], default=str)
        return text_hash([self.task.model_dump(mode="json"), dict(self.units), plain, documents])

    def item_texts(self) -> Iterator[ItemText]:
        """The texts of all documents, for the contamination check."""
        for language, id, document in self.documents():
            yield from (ItemText(self.name, id, language, text) for text in _texts(document))


def _texts(value: Any) -> Iterator[str]:
    """The texts in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _item_id(tasks: Collection[str], name: str, index: int) -> str:
    return str(index) if len(tasks) == 1 else f"{name}/{index}"


# -- reading -------------------------------------------------------------------------------------------------


def plan_harness(config: Config, task: HarnessTask, languages: Sequence[str]) -> HarnessPlan:
    """Reads a task of the harness with its data.

    Args:
        config: the configuration.
        task: the task.
        languages: codes of those that are evaluated.

    Raises:
        ModelError: the harness is not installed.
        UnknownNameError: it has no such task.
        DataError: it has the task in none of the languages, cannot load its data, or scores it in a way that
            cannot be shown here.
    """
    require_harness()
    include = None if task.include is None else str(config.evaluation.data / task.include)
    if include is not None and not Path(include).is_dir():
        raise DataError(f"{task.name}: include: {include} is not a folder.")
    manager = _manager(include)
    units = find_units(task, languages, set(manager.all_tasks))
    tasks: dict[str, dict[str, Any]] = {}
    chosen: dict[str, Sequence[int]] = {}
    for language, unit in units.items():
        tasks[language] = _load(manager, task, unit)
        for name, each in tasks[language].items():
            _check_room(config, name, each)
            kept = choose_items([str(i) for i in range(len(each.eval_docs))], config.evaluation.items)
            chosen[name] = sorted(map(int, kept))
    return HarnessPlan(task, units, tasks, chosen)


@lru_cache(maxsize=4)
def _manager(include: str | None) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include)


def find_units(task: HarnessTask, languages: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """By language, the harness's task or group.

    Args:
        task: the task.
        languages: codes of those that are evaluated.
        names: of all tasks and groups of the harness.

    Raises:
        UnknownNameError: the harness has no such task.
        DataError: there is one in none of the languages, or its name does not say in which language it is.
    """
    found: dict[str, str] = {}
    if task.languages:
        here = [code for code in languages if code in task.languages]
        found = {code: task.task.replace("{name}", task.languages[code]) for code in here}
        for each in found.values():
            if each not in names:
                raise UnknownNameError("task of lm-evaluation-harness", each, names)
        if found:
            return found
        raise DataError(f"{task.name} has only {', '.join(task.languages)}, none of them evaluated here.")
    given = [task.task] if "{language}" in task.task else [task.task + "_{language}", task.task + "-{language}"]
    for code in languages:
        spelled = [pattern.replace("{language}", each) for each in _spellings(code) for pattern in given]
        unit: str | None = next((name for name in spelled if name in names), None)
        if unit is None and any(task.task.endswith((f"_{each}", f"-{each}")) for each in _spellings(code)):
            unit = task.task if task.task in names else None
        if unit is not None:
            found[code] = unit
    if found:
        return found
    if task.task in names:
        raise DataError(
            f"{task.task}: its name does not say which of the languages {', '.join(languages)} it is in. Name the "
            f"language: lm-eval:{task.task}@{languages[0]}, or write a task file with kind: lm-eval and languages."
        )
    if any(name.startswith(task.task.partition("{")[0]) for name in names):
        raise DataError(
            f"{task.task}: the harness has it in none of the languages {', '.join(languages)}, as far as names "
            "say. A task file with kind: lm-eval and languages says which of its tasks is in which language."
        )
    raise UnknownNameError("task of lm-evaluation-harness", task.task, names)


def _spellings(code: str) -> list[str]:
    """How the harness's tasks may name a language: jav, jv, jav_Latn, javanese."""
    if is_private(code):
        return [code]
    short = Language.get(code.replace("_", "-")).language or code
    english = english_name(code).lower().replace(" ", "_")
    return list(dict.fromkeys([_flores_names().get(code, code), code, short, english]))


@lru_cache(maxsize=1)
def _flores_names() -> Mapping[str, str]:
    text = files("instructalign.evaluation").joinpath("languages/flores200.yaml").read_text(encoding="utf-8")
    names: Mapping[str, str] = yaml.safe_load(text)
    return names


def _load(manager: Any, task: HarnessTask, unit: str) -> dict[str, Any]:
    try:
        with _as_its_command_line():
            tasks: dict[str, Any] = manager.load([unit])["tasks"]
    except Exception as error:  # whatever its loaders and the Hub's raise
        first = next(iter(str(error).splitlines()), "")
        raise DataError(f"lm-eval:{unit} cannot be loaded: {type(error).__name__}: {first}") from error
    for name, each in tasks.items():
        if getattr(each, "UNSAFE_CODE", False):
            raise DataError(
                f"lm-eval:{name} runs code that the model writes; run it with `instructalign lm-eval`."
            )
        if getattr(each, "MULTIMODAL", False) or each.OUTPUT_TYPE == "loglikelihood_rolling":
            raise DataError(f"lm-eval:{name} is not a task of choices or generation; use `instructalign lm-eval`.")
        if not any(_keeps(metric, each) for metric in each.aggregation()):
            raise DataError(
                f"lm-eval:{name} has no metric that is a mean over items ({', '.join(each.aggregation())}); "
                "use `instructalign lm-eval`."
            )
        if task.shots is not None and each.get_config("num_fewshot") != 0:
            each.set_config(key="num_fewshot", value=task.shots)
        elif each.get_config("num_fewshot") is None:
            each.set_config(key="num_fewshot", value=0)
    return tasks


def _check_room(config: Config, name: str, task: Any) -> None:
    if task.OUTPUT_TYPE == "generate_until":
        from lm_eval.models.utils import normalize_gen_kwargs

        tokens = normalize_gen_kwargs(task.get_config("generation_kwargs") or {})["max_gen_toks"]
        check_room(config, f"lm-eval:{name}", tokens, "max_gen_toks")


def check_room(config: Config, name: str, tokens: int, key: str) -> None:
    """Raises a DataError where a generated answer alone would fill the context of the configured model.

    Args:
        config: names the model.
        name: the task.
        tokens: the maximum length of its answers.
        key: what the task's file calls it.
    """
    from instructalign.training.models import load_codec

    try:
        codec = load_codec(config.model)
    except ModelError:  # another model may be evaluated; what is wrong with this one is said where it is used
        return
    if not codec.encoder_decoder and codec.context is not None and codec.context <= tokens:
        raise DataError(
            f"{name} generates up to {tokens} tokens, which leaves no room for a prompt in the context of "
            f"{config.model.base}, {codec.context} tokens. Remove it, or give its file a smaller {key}."
        )


def _keeps(metric: str, task: Any) -> bool:
    """Whether a metric can be shown with an interval: a mean over items, or one of sacrebleu's."""
    from lm_eval.api.registry import get_aggregation

    return metric in _CORPUS or task.aggregation().get(metric) is get_aggregation("mean")


@contextmanager
def _as_its_command_line() -> Iterator[None]:
    """Inside, the random states that the harness's command line sets, and no progress bars or notes of its own.

    Some of its tasks draw from Python's and numpy's global states.
    """
    notes = logging.getLogger("lm_eval")
    level = notes.level
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(_SEED)
    notes.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        notes.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])


# -- answering -----------------------------------------------------------------------------------------------


def ask_harness(
    loaded: LoadedModel, plan: HarnessPlan, config: Config, runner: BatchRunner
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Answers a task of the harness: the lines of its files, and what the manifest notes of them."""
    from instructalign.evaluation.lm_eval_model import InstructAlignLM

    model = config.answering_model
    chat = loaded.codec.chat is not None
    with _as_its_command_line():
        lm = InstructAlignLM(
            loaded.model,
            tokenizer=loaded.tokenizer,
            max_length=loaded.codec.context,
            batch_tokens=config.evaluation.batch_tokens,
            chat_template_args=dict(model.chat_options),
        )
    asked: list[Any] = []
    starts = []  # of each batch among the requests
    for tasks in plan.tasks.values():
        for name, task in tasks.items():
            task.set_fewshot_seed(_SEED)
            with _as_its_command_line():
                task.build_all_requests(
                    samples=set(plan.chosen[name]),
                    system_instruction=model.system_prompt if chat else None,
                    apply_chat_template=chat,
                    fewshot_as_multiturn=chat,
                    chat_template=lm.apply_chat_template if chat else None,
                    tokenizer_name=lm.tokenizer_name if chat else "",
                )
            first = None
            for request in sorted(task.instances, key=lambda each: each.request_type):
                place = request.request_type, request.doc_id // _BATCH
                if place != first:
                    starts.append(len(asked))
                    first = place
                asked += [request] * request.repeats

    def answer(batch: list[int]) -> list[Any]:
        some = [asked[index] for index in batch]
        return list(getattr(lm, some[0].request_type)(some, disable_tqdm=True))

    ends = [*starts[1:], len(asked)]
    batches = [list(range(start, end)) for start, end in zip(starts, ends, strict=True)]
    for request, value in zip(asked, runner.run(batches, answer), strict=True):
        request.resps.append(tuple(value) if isinstance(value, list) else value)
    left_out: set[str] = set()
    records = [
        [record for name, task in tasks.items() for record in _records(plan, code, name, task, left_out)]
        for code, tasks in plan.tasks.items()
    ]
    if left_out:
        log.warning("%s: not reported, no means over items: %s", plan.name, ", ".join(sorted(left_out)))
    shots = sorted({task.get_config("num_fewshot") for tasks in plan.tasks.values() for task in tasks.values()})
    return records, {
        "split": "test",
        "prompts": [_PROMPT],
        "items": plan.items,
        "left_out": {},
        "cut": 0,
        "lm_eval": version("lm_eval"),
        "harness": dict(plan.units),
        "shots": shots,
        "chat": chat,
    }


def _records(
    plan: HarnessPlan, language: str, name: str, task: Any, left_out: set[str]
) -> Iterator[dict[str, Any]]:
    """A line for each document: the answers and the value of each metric."""
    task.apply_filters()
    by_document: dict[int, list[Any]] = {}
    for request in task.instances:
        by_document.setdefault(request.doc_id, []).append(request)
    for place, requests in by_document.items():
        requests.sort(key=lambda each: each.idx)
        document, metrics = requests[0].doc, dict[str, Any]()
        only = len(requests[0].filtered_resps) == 1
        for key in requests[0].filtered_resps:
            found = task.process_results(document, [each.filtered_resps[key] for each in requests])
            for metric, value in found.items():
                shown = _CORPUS.get(metric, metric) + ("" if only else f",{key}")
                if not _keeps(metric, task):
                    left_out.add(shown)
                else:
                    metrics[shown] = [*map(str, value)] if metric in _CORPUS else float(value)
        yield {
            "task": plan.name,
            "language": language,
            "item": _item_id(plan.tasks[language], name, plan.chosen[name][place]),
            "prompt": requests[0].args[0],
            "answers": [each.resps for each in requests],
            "target": str(task.doc_to_target(document)),
            "metrics": metrics,
        }


# -- scoring -------------------------------------------------------------------------------------------------


def read_harness(folder: Path, task: str, languages: Collection[str]) -> dict[str, dict[str, Sample]]:
    """By metric and language, the scores of a task's items, from the files that an evaluation wrote.

    Raises:
        DataError: a line is not one of them; the message names it.
    """
    found: dict[str, dict[str, Sample]] = {}
    for language in languages:
        file = prediction_file(folder, task, language)
        records = []
        for number, record in read_jsonl(file):
            if not {"item", "metrics"} <= record.keys():
                raise DataError(f"{file}:{number}: not an item of lm-evaluation-harness: no item or metrics.")
            records.append(record)
        for metric in dict.fromkeys(name for record in records for name in record["metrics"]):
            found.setdefault(metric, {})[language] = _sample(task, language, metric, records)
    return found


def _sample(task: str, language: str, metric: str, records: Records) -> Sample:
    items = tuple(record["item"] for record in records)
    values = [record["metrics"].get(metric) for record in records]
    name = metric.partition(",")[0]
    score: Callable[[NDArray[np.float64]], BootstrapScores] = ratio
    if name in _CORPUS.values():
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        scorer: Any = BLEU() if name == "bleu" else CHRF()
        references, texts = zip(*values, strict=True)
        statistics = np.array(scorer._extract_corpus_statistics(list(texts), [list(references)]), dtype=np.float64)
        score = partial(corpus_score, scorer)
    else:
        statistics = np.array([[value or 0.0, value is not None] for value in values], dtype=np.float64)
    return Sample(task, language, (_PROMPT,), items, statistics[None], score)


def harness_signature(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a signature says of a task of the harness beside the usual."""
    return {name: entry[name] for name in ("harness", "lm_eval", "shots", "chat")}
