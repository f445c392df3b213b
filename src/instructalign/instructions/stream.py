"""The stream of instructions made of the corpora: example k as a function of the seed and k."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, islice, product
from typing import Protocol, cast

import numpy as np

from instructalign.config import InstructionsConfig, LanguagesConfig
from instructalign.data.corpus import Corpus, language_runs, monolingual
from instructalign.errors import DataError
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Context, IndexedRows, Objective
from instructalign.instructions.passages import Passages
from instructalign.instructions.templates import Template, load_templates, worded
from instructalign.languages import is_synthetic, plain_code, synthetic_code
from instructalign.plugins import OBJECTIVES
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.types import Counts, Instruction, ParallelRow

_TRIES = 200  # other rows that are tried if the objective does not apply to the one whose turn it is


class Units(Protocol):
    """What an objective is applied to, by number: a row, the language given and the language asked for."""

    count: int

    def __getitem__(self, number: int, /) -> tuple[ParallelRow, str, str]: ...


class ObjectiveSchedule:
    """The sampling weights of the objectives, constant or scheduled, as running sums in the configured order."""

    def __init__(self, config: InstructionsConfig) -> None:
        schedule = config.schedule
        if schedule is None:
            self._starts, self._linear = [0], False
            self._weights = [[entry.weight for entry in config.objectives.values()]]
        else:
            self._starts, self._linear = [stage.at for stage in schedule.stages], schedule.shape == "linear"
            # A stage's weights sum to 1, so that a transition is even whatever the scale of its two ends.
            self._weights = [
                [stage.weights.get(name, 0.0) / sum(stage.weights.values()) for name in config.objectives]
                for stage in schedule.stages
            ]
        self._sums = [list(accumulate(weights)) for weights in self._weights]

    def cumulative(self, k: int) -> Sequence[float]:
        """The running sums of the weights at example k."""
        if len(self._starts) == 1:
            return self._sums[0]
        stage = bisect_right(self._starts, k) - 1
        if not self._linear or stage + 1 == len(self._starts):
            return self._sums[stage]
        start, end = self._starts[stage], self._starts[stage + 1]
        done = (k - start) / (end - start)
        here, there = self._weights[stage], self._weights[stage + 1]
        return list(accumulate(a + (b - a) * done for a, b in zip(here, there, strict=True)))


class DirectedRows:
    """All (row, source, target) of a corpus by number, without a list of them.

    Args:
        corpus: the rows.
        pivots: languages on one side of a pair.
        targets: languages on the other; either side can be the source. Text that a machine wrote is a source only.
        elsewhere: targets that have monolingual text, and need no row.

    Attributes:
        count: how many there are.
        directions: every (source, target) among them.
        counts: how many rows there are, how many are used, and why the others are not.

    Raises:
        DataError: there is no row, or a target has no row together with a pivot.
    """

    def __init__(
        self, corpus: IndexedRows, pivots: Sequence[str], targets: Sequence[str], elsewhere: Collection[str] = ()
    ) -> None:
        self._corpus = corpus
        self._patterns: list[list[tuple[str, str]]] = []  # the directions of a row, by which languages it has
        # Of each run of rows with the same languages: its pattern, its first row, the number of its first
        # direction. FLORES is one run, where a division finds the row; so is each corpus of two languages.
        self._pattern_of = array("I")
        self._first_rows = array("Q")
        self._first_numbers = array("Q")
        self.count = 0
        self.counts = Counts()
        both = list(dict.fromkeys([*product(pivots, targets), *product(targets, pivots)]))
        asked = frozenset([*pivots, *targets, *map(synthetic_code, [*pivots, *targets])])
        known: dict[frozenset[str], int] = {}
        row, before = 0, -1
        for languages, rows in language_runs(corpus):
            have = asked & languages
            if have not in known:
                pairs = [(a, b) for a, b in product(pivots, targets) if a != b and {a, b} <= have]
                known[have] = len(known)
                # A language can be both pivot and target; its pairs count once.
                made = [(synthetic_code(a), b) for a, b in both if a != b and {synthetic_code(a), b} <= have]
                self._patterns.append(list(dict.fromkeys([*pairs, *((b, a) for a, b in pairs), *made])))
            pattern = known[have]
            width = len(self._patterns[pattern])
            if width and pattern != before:
                self._pattern_of.append(pattern)
                self._first_rows.append(row)
                self._first_numbers.append(self.count)
            before = pattern
            row += rows
            self.count += width * rows
            self.counts.read += rows
            if width:
                self.counts.kept += rows
            else:
                reason = "no pivot language" if have.isdisjoint(pivots) else "no target language"
                self.counts.drop(reason, rows)
        self.directions = list(dict.fromkeys((plain_code(a), b) for each in self._patterns for a, b in each))
        if not self.counts.read:
            raise DataError("the corpus is empty: there is no row to make instructions from.")
        reached = {code for pair in self.directions for code in pair}
        if missing := [code for code in targets if code not in reached and code not in elsewhere]:
            found = sorted({code for row in islice(corpus, 1000) for code in row.texts})
            raise DataError(
                f"languages.new or instructions.targets: no row of the corpus has {', '.join(missing)} together "
                f"with a pivot ({', '.join(pivots)}). Languages in the corpus: {', '.join(found) or 'none'}. "
                "Add a corpus with these languages, or remove them."
            )

    def __getitem__(self, number: int) -> tuple[ParallelRow, str, str]:
        run = bisect_right(self._first_numbers, number) - 1 if len(self._first_numbers) > 1 else 0
        pattern = self._patterns[self._pattern_of[run]]
        at, place = divmod(number - self._first_numbers[run], len(pattern))
        source, target = pattern[place]
        return self._corpus[self._first_rows[run] + at], source, target


class MonolingualUnits:
    """What a monolingual objective takes, by number: all (row, source, target), then lines of monolingual text.

    Attributes:
        count: how many there are.
    """

    def __init__(self, directed: DirectedRows | None, lines: IndexedRows) -> None:
        self._directed = directed
        self._lines = lines
        self._first = directed.count if directed else 0
        self.count = self._first + len(lines)

    def __getitem__(self, number: int) -> tuple[ParallelRow, str, str]:
        if self._directed and number < self._first:
            return self._directed[number]
        row = self._lines[number - self._first]
        [code] = row.texts
        return row, code, code


class InstructionStream:
    """An endless sequence of instructions.

    All directed rows (a row from a pivot to a new language or back) are visited once an epoch, in a new order
    each; for each, an objective is drawn by weight and a template uniformly. If the objective does not apply to a
    row (no word of it is in the lexicon), another row is drawn at random. A monolingual objective takes a directed
    row or a line of monolingual text, or a passage of that; others never take monolingual text.

    Args:
        corpus: the parallel rows and those of monolingual text.
        config: objectives, templates and noise.
        languages: which languages are new (and so the targets, unless `config` names others), and names that
            replace the usual ones in prompts.
        pivots: the known languages to align with.
        seed: another seed gives another stream.
        length: characters of a passage where an objective does not set it.

    Raises:
        ConfigError: a template set is wrong or lacks an objective.
        DataError: a new language has no row together with a pivot, or there is no text for an objective.
    """

    def __init__(
        self,
        corpus: IndexedRows,
        config: InstructionsConfig,
        languages: LanguagesConfig,
        pivots: Sequence[str],
        seed: int,
        length: int = 256,
    ) -> None:
        targets = config.targets or languages.new
        rows, text = separate(corpus, {*pivots, *targets})
        self._seed = seed
        self._key = digest_key(seed, "instructions")
        self._context = Context(rows, Noise(config.noise), seed)
        objectives: dict[str, Objective] = {}
        for name, entry in config.objectives.items():
            objectives[name] = objective = OBJECTIVES.get(name)(**entry.options)
            if not isinstance(objective, Objective):
                raise TypeError(f"the objective {name!r} is no instructalign.instructions.objectives.Objective")
        alone = [objective for objective in objectives.values() if objective.monolingual]
        directed = None
        if len(rows) or not alone or not len(text):
            elsewhere = text.languages if alone else ()
            directed = DirectedRows(rows if len(rows) else corpus, pivots, targets, elsewhere)
        self.counts = Counts()
        if directed:
            self.counts.add(directed.counts)
        if len(text):
            unused = "monolingual text, which no objective takes"
            self.counts.add(Counts(len(text), len(text)) if alone else Counts(len(text), 0, {unused: len(text)}))
        self._choices: list[tuple[str, Objective, Units, list[tuple[Template, dict[str, str]]]]] = []
        worded_by = load_templates(config.templates, worded(config.objectives))
        for name, objective in objectives.items():
            units: Units | None = directed
            if objective.passages:
                units = Passages(text, objective.characters or length)
            elif objective.monolingual and len(text):
                units = MonolingualUnits(directed, text)
            if not units or not units.count:
                raise DataError(lacks_text(name, objective.passages))
            named = []
            for template in worded_by.get(name, ()):
                names = {code: template.name_of(code, languages.names) for code in {*pivots, *targets}}
                named.append((template, names))
            self._choices.append((name, objective, units, named))
        self._schedule = ObjectiveSchedule(config)
        self._targets = frozenset(targets)
        for objective in objectives.values():
            objective.prepare(directed.directions if directed else [], self._context)

    @property
    def epoch(self) -> int:
        """How many examples it takes to visit every row in every direction once, and all monolingual text."""
        return max(units.count for _, _, units, _ in self._choices)

    def __getitem__(self, k: int) -> Instruction:
        """Example k, for any k from 0 up."""
        if k < 0:
            raise IndexError(f"examples are counted from 0, not {k}")
        draws = Draws(self._key, k)
        name, objective, units, templates = self._choices[draws.weighted(self._schedule.cumulative(k))]
        template, names = templates[draws.below(len(templates))] if templates else (None, {})
        number = permuted(k, units.count, self._seed, "units")
        for _ in range(_TRIES):
            row, source, target = units[number]
            if objective.monolingual:
                source = target = target if target in self._targets else source
            made = None
            if not is_synthetic(target):  # of a synthetic side alone, there is nothing to learn
                if is_synthetic(source):
                    row = ParallelRow(row.id, {plain_code(code): text for code, text in row.texts.items()})
                    source = plain_code(source)
                made = objective.make(row, source, target, draws, self._context)
            if made is not None:
                break
            number = draws.below(units.count)
        else:
            raise DataError(
                f"{name} does not apply to any of {_TRIES} rows tried: their words are not in the lexicon, or too "
                f"few are aligned. Remove {name} from instructions.objectives, or add text."
            )
        slots, answer = made
        goes_on = isinstance(units, Passages) and units.goes_on(number)
        if template is None:
            [prompt] = slots.values()
            return Instruction(prompt, answer, name, source, target, row.id, goes_on=goes_on)
        prompt = template.prompt.format(source=names[source], target=names[target], **slots)
        if objective.labels:
            answer = template.answers[answer]
        return Instruction(prompt, answer, name, source, target, row.id, template.id, goes_on=goes_on)


def separate(corpus: IndexedRows, languages: Collection[str]) -> tuple[IndexedRows, Corpus]:
    """The parallel rows of a corpus, and those of monolingual text.

    Args:
        corpus: the rows.
        languages: those of the parallel rows.
    """
    alone = monolingual(corpus)
    if not alone.any():
        return corpus, Corpus([], Counts())
    rows = cast("Sequence[ParallelRow]", corpus)  # all that a part asks of it is a length, and rows by number
    parallel = Corpus(rows, Counts(), languages, index=np.flatnonzero(~alone).tolist())
    return parallel, Corpus(rows, Counts(), index=np.flatnonzero(alone).tolist())


def has_text_for(objective: str, corpus: IndexedRows) -> bool:
    """Whether a corpus has text that an objective can take."""
    kind, alone = OBJECTIVES.get(objective), monolingual(corpus)
    if getattr(kind, "passages", False):
        return bool(alone.any())
    return len(alone) > 0 if getattr(kind, "monolingual", False) else not alone.all()


def lacks_text(objective: str, passages: bool) -> str:
    """The error where a corpus has no text for an objective."""
    if passages:
        return (
            f"instructions.objectives: {objective} continues monolingual text, and the corpora have none. Add "
            "some, as {format: text, path: news.txt, languages: [jav]}; a corpus of one language is monolingual."
        )
    return (
        f"instructions.objectives: {objective} needs parallel text, and the corpora are monolingual. Write "
        "objectives: {lm: 1, mlm: 1}, or add a parallel corpus."
    )


def generate_instructions(stream: InstructionStream, count: int, start: int = 0) -> Iterator[Instruction]:
    """The examples `start` … `start + count - 1` of a stream."""
    return (stream[k] for k in range(start, start + count))
