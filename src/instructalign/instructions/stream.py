"""The stream of alignment instructions: example k as a function of the seed and k."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, product

from instructalign.config import InstructionsConfig, LanguagesConfig
from instructalign.data.corpus import language_runs
from instructalign.errors import DataError
from instructalign.instructions.context import Context, Rows
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Objective
from instructalign.instructions.templates import Template, load_templates
from instructalign.languages import name_in
from instructalign.plugins import OBJECTIVES
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.types import Counts, Instruction, ParallelRow


class Weights:
    """The weights of the objectives, constant or scheduled, as running sums in the configuration's order."""

    def __init__(self, config: InstructionsConfig) -> None:
        schedule = config.schedule
        if schedule is None:
            self._starts, self._linear = [0], False
            self._weights = [[entry.weight for entry in config.objectives.values()]]
        else:
            self._starts, self._linear = [stage.at for stage in schedule.stages], schedule.shape == "linear"
            # A stage's weights sum to 1, so that a transition is even whatever scale its ends are written in.
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


Direction = tuple[str, str]


class Units:
    """All (row, source, target) there are, by number, without a list of them.

    Args:
        corpus: the rows.
        pivots: languages on one side of a unit.
        targets: languages on the other; either side can be the source.

    Attributes:
        count: how many units there are.
        directions: every (source, target) among them.
        counts: how many rows there are, how many have units, and why the others have none.

    Raises:
        DataError: there is no row, or a target stands in no row together with a pivot.
    """

    def __init__(self, corpus: Rows, pivots: Sequence[str], targets: Sequence[str]) -> None:
        self._corpus = corpus
        self._pivots, self._targets = pivots, targets
        self._patterns: list[list[Direction]] = []  # the directions of a row, by which languages it has
        # Of each run of rows with the same languages: its pattern, its first row, its first unit. FLORES is one
        # run, where a division finds the row; so is each corpus of two languages.
        self._pattern_of = array("I")
        self._first_rows = array("Q")
        self._first_units = array("Q")
        self.count = 0
        self.counts = Counts()
        self._go_through(corpus)
        self.directions = list(dict.fromkeys(pair for pattern in self._patterns for pair in pattern))
        self._check()

    def __getitem__(self, number: int) -> tuple[ParallelRow, str, str]:
        run = bisect_right(self._first_units, number) - 1 if len(self._first_units) > 1 else 0
        pattern = self._patterns[self._pattern_of[run]]
        at, place = divmod(number - self._first_units[run], len(pattern))
        source, target = pattern[place]
        return self._corpus[self._first_rows[run] + at], source, target

    def _go_through(self, corpus: Rows) -> None:
        wanted = frozenset([*self._pivots, *self._targets])
        known: dict[frozenset[str], int] = {}
        row, before = 0, -1
        for languages, rows in language_runs(corpus):
            have = wanted & languages
            if have not in known:
                known[have] = len(known)
                self._patterns.append(self._directions_of(have))
            pattern = known[have]
            width = len(self._patterns[pattern])
            if width and pattern != before:
                self._pattern_of.append(pattern)
                self._first_rows.append(row)
                self._first_units.append(self.count)
            before = pattern
            row += rows
            self.count += width * rows
            self._tally(have, width, rows)

    def _directions_of(self, have: frozenset[str]) -> list[Direction]:
        pairs = [(a, b) for a, b in product(self._pivots, self._targets) if a != b and {a, b} <= have]
        # A language can be both pivot and target; its pairs count once.
        return list(dict.fromkeys([*pairs, *((b, a) for a, b in pairs)]))

    def _tally(self, have: frozenset[str], units: int, rows: int) -> None:
        self.counts.read += rows
        if units:
            self.counts.kept += rows
        elif have.isdisjoint(self._pivots):
            self.counts.drop("no pivot language", rows)
        else:
            self.counts.drop("no target language", rows)

    def _check(self) -> None:
        if not self.counts.read:
            raise DataError("the corpus is empty: there is no row to make instructions from.")
        reached = {code for pair in self.directions for code in pair}
        missing = [code for code in self._targets if code not in reached]
        if missing:
            found = sorted({code for row in islice(self._corpus, 1000) for code in row.texts})
            raise DataError(
                f"languages.new or instructions.targets: no row of the corpus has {', '.join(missing)} together "
                f"with a pivot ({', '.join(self._pivots)}). The corpus has: {', '.join(found) or 'no text'}. "
                "Add a corpus with these languages, or take them out."
            )


_TRIES = 200  # other units, where an objective can make nothing of the one whose turn it is


class InstructionStream:
    """An endless sequence of alignment instructions.

    A unit is a row in a direction: from a pivot to a new language or back. All units are visited once an
    epoch, in a new order each; for each, an objective is drawn by weight and a template uniformly. Where the
    objective can make nothing of a unit (no word of it is in the lexicon), it takes another, drawn at random.

    Args:
        corpus: the parallel rows.
        config: objectives, templates and noise.
        languages: which languages are new (and so the targets, unless `config` names others), and names that
            replace the usual ones in prompts.
        pivots: the known languages to align with.
        seed: another seed gives another stream.

    Raises:
        ConfigError: a template set is wrong or lacks an objective.
        DataError: a new language stands in no row together with a pivot.
    """

    def __init__(
        self,
        corpus: Rows,
        config: InstructionsConfig,
        languages: LanguagesConfig,
        pivots: Sequence[str],
        seed: int,
    ) -> None:
        targets = config.targets or languages.new
        self._units = Units(corpus, pivots, targets)
        self._seed = seed
        self._key = digest_key(seed, "instructions")
        self._context = Context(corpus, Noise(config.noise), seed)
        self._objectives = {name: make_objective(name, entry.options) for name, entry in config.objectives.items()}
        templates = load_templates(config.templates, self._objectives)
        codes = {*pivots, *targets}
        self._choices = [
            (name, made, [_Named(template, codes, languages.names) for template in templates[name]])
            for name, made in self._objectives.items()
        ]
        self._weights = Weights(config)
        self._targets = frozenset(targets)
        for made in self._objectives.values():
            made.prepare(self._units.directions, self._context)

    @property
    def epoch(self) -> int:
        """How many examples it takes to visit every unit once."""
        return self._units.count

    @property
    def counts(self) -> Counts:
        """How many rows there are, how many can be used, and why the others cannot."""
        return self._units.counts

    def __getitem__(self, k: int) -> Instruction:
        """Example k, for any k from 0 up."""
        if k < 0:
            raise IndexError(f"examples are counted from 0, not {k}")
        draws = Draws(self._key, k)
        name, objective, templates = self._choices[draws.weighted(self._weights.cumulative(k))]
        template = templates[draws.below(len(templates))]
        unit = permuted(k, self._units.count, self._seed, "units")
        for _ in range(_TRIES):
            row, source, target = self._units[unit]
            if objective.monolingual:
                source = target = target if target in self._targets else source
            made = objective.make(row, source, target, draws, self._context)
            if made is not None:
                break
            unit = draws.below(self._units.count)
        else:
            raise DataError(
                f"{name} could make nothing of {_TRIES} rows in a row: its words are not in the lexicon, or too "
                f"few are aligned. Leave {name} out of instructions.objectives, or add text."
            )
        slots, answer = made
        names = template.names
        prompt = template.format(source=names[source], target=names[target], **slots)
        if objective.labels:
            answer = template.answers[answer]
        return Instruction(prompt, answer, name, source, target, row.id, template.id)


def generate(stream: InstructionStream, count: int, start: int = 0) -> Iterator[Instruction]:
    """The examples `start` … `start + count - 1` of a stream."""
    return (stream[k] for k in range(start, start + count))


def make_objective(name: str, options: Mapping[str, object]) -> Objective:
    """The objective of a name, with its options from the configuration."""
    made = OBJECTIVES.get(name)(**options)
    if not isinstance(made, Objective):
        raise TypeError(f"the objective {name!r} is not an instructalign.instructions.objectives.Objective")
    return made


class _Named:
    """A template with the name of each language as its prompt says it."""

    __slots__ = ("answers", "format", "id", "names")

    def __init__(self, template: Template, codes: Iterable[str], given: Mapping[str, str]) -> None:
        self.id = template.id
        self.format = template.prompt.format
        self.answers = template.answers
        self.names = {
            code: given.get(code) or template.names.get(code) or name_in(code, template.language) for code in codes
        }
