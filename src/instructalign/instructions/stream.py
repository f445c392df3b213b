"""The stream of alignment instructions: example k as a function of corpus, configuration, seed and k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from instructalign.config import InstructionsConfig, LanguagesConfig
from instructalign.errors import DataError
from instructalign.instructions.context import Context, Rows
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Objective
from instructalign.instructions.templates import Template, load_templates
from instructalign.instructions.units import Units
from instructalign.instructions.weights import Weights
from instructalign.languages import name_in
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.records import Counts, Instruction
from instructalign.registry import OBJECTIVES

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
