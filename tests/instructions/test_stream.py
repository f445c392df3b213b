from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from instructalign.config import Entry, InstructionsConfig, LanguagesConfig, NoiseConfig
from instructalign.errors import DataError
from instructalign.instructions import InstructionStream, generate_instructions
from instructalign.instructions.segmentation import words
from instructalign.instructions.stream import DirectedRows, ObjectiveSchedule
from instructalign.randomness import Draws, digest_key
from instructalign.types import ParallelRow

KNOWN, NEW = ["eng", "ind"], ["jav", "sun"]
LANGUAGES = LanguagesConfig(known=KNOWN, new=NEW)
WORDS = {
    "eng": "river stone bird",
    "ind": "sungai batu burung",
    "jav": "kali watu manuk",
    "sun": "walungan batu manuk",
}


def rows(count: int, codes: Sequence[str] = (*KNOWN, *NEW)) -> list[ParallelRow]:
    def text(code: str, i: int) -> str:
        return (
            " ".join(f"{word}{(i * (place + 1)) % 97}" for place, word in enumerate(WORDS[code].split() * 3))
            + f" {i}."
        )

    return [ParallelRow(f"r{i}", {code: text(code, i) for code in codes}) for i in range(count)]


def make(
    corpus: Sequence[ParallelRow],
    objectives: Mapping[str, float] | Sequence[str] = ("mlm", "tlm", "mt", "xss"),
    *,
    options: Mapping[str, object] | None = None,
    templates: Sequence[str] = ("eng",),
    seed: int = 1,
    languages: LanguagesConfig = LANGUAGES,
    pivots: Sequence[str] = KNOWN,
    probability: float = 0.2,
) -> InstructionStream:
    weights = objectives if isinstance(objectives, Mapping) else dict.fromkeys(objectives, 1.0)
    entries = {
        name: Entry(name=name, weight=weight, options=dict(options or {})) for name, weight in weights.items()
    }
    config = InstructionsConfig(
        objectives=entries, templates=list(templates), noise=NoiseConfig(probability=probability)
    )
    return InstructionStream(corpus, config, languages, pivots, seed)


FIRST, SECOND = make(rows(20)), make(rows(20))


@given(st.lists(st.integers(0, 10**9), max_size=20))
def test_an_example_is_a_function_of_its_number(numbers: list[int]) -> None:
    forward = [FIRST[k] for k in numbers]
    backward = [SECOND[k] for k in reversed(numbers)][::-1]
    assert forward == backward


def test_more_examples_begin_with_the_same() -> None:
    stream = make(rows(30))
    assert list(generate_instructions(stream, 200))[:50] == list(generate_instructions(stream, 50))
    assert list(generate_instructions(stream, 50, start=150)) == list(generate_instructions(stream, 200))[150:]


def test_a_stream_can_be_sent_to_another_process() -> None:
    stream = make(rows(20))
    assert pickle.loads(pickle.dumps(stream))[7] == stream[7]


def test_another_seed_gives_another_stream() -> None:
    assert [make(rows(30))[k] for k in range(9)] != [make(rows(30), seed=2)[k] for k in range(9)]


def test_an_epoch_visits_every_unit_once_in_a_new_order() -> None:
    stream = make(rows(11), ["mt"])
    assert stream.epoch == 11 * 4 * 2
    units = [(i.row, i.source, i.target) for i in generate_instructions(stream, 3 * stream.epoch)]
    epochs = [units[e * stream.epoch : (e + 1) * stream.epoch] for e in range(3)]
    every = {(f"r{n}", *pair) for n in range(11) for a in KNOWN for b in NEW for pair in ((a, b), (b, a))}
    assert all(set(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@given(st.lists(st.sets(st.sampled_from([*KNOWN, *NEW])), min_size=1, max_size=30))
def test_rows_that_lack_languages(having: list[set[str]]) -> None:
    corpus = [ParallelRow(f"r{i}", {code: f"{code} {i}" for code in have}) for i, have in enumerate(having)]
    every = {
        (row.id, *pair)
        for row in corpus
        for a in KNOWN
        for b in NEW
        if a in row.texts and b in row.texts
        for pair in ((a, b), (b, a))
    }
    if {code for unit in every for code in unit[1:]}.issuperset(NEW):
        stream = make(corpus, ["mt"])
        assert {(i.row, i.source, i.target) for i in generate_instructions(stream, stream.epoch)} == every
        assert stream.epoch == len(every)
        assert stream.counts.read == len(corpus)
        assert stream.counts.kept == len({unit[0] for unit in every})
        assert stream.counts.kept + sum(stream.counts.dropped.values()) == len(corpus)
    else:
        with pytest.raises(DataError, match="no row of the corpus has"):
            make(corpus, ["mt"])


def test_languages_that_are_both_pivot_and_target() -> None:
    config = InstructionsConfig(objectives={"mt": Entry(name="mt")}, targets=KNOWN)
    stream = InstructionStream(rows(5), config, LANGUAGES, KNOWN, 1)
    pairs = Counter((i.source, i.target) for i in generate_instructions(stream, stream.epoch))
    assert pairs == {("eng", "ind"): 5, ("ind", "eng"): 5}


def test_the_answer_is_the_clean_sentence() -> None:
    corpus = rows(40)
    texts = {(row.id, code): text for row in corpus for code, text in row.texts.items()}
    for made in generate_instructions(make(corpus, ["mlm", "tlm", "mt"]), 500):
        assert made.answer == texts[made.row, made.target]
        if made.objective == "mlm":
            assert made.source == made.target
            assert made.target in NEW
        else:
            assert texts[made.row, made.source] in made.prompt
            assert {made.source, made.target} & set(NEW)
            assert {made.source, made.target} & set(KNOWN)


def test_without_noise_the_sentence_stands_in_the_prompt() -> None:
    for made in generate_instructions(make(rows(40), ["mlm", "tlm"], probability=0), 200):
        assert made.answer in made.prompt


def test_an_objective_can_have_noise_of_its_own() -> None:
    options = {"noise": NoiseConfig(probability=1, span_length=50, mixture={"span": 1})}
    config = InstructionsConfig(
        objectives={"tlm": Entry(name="tlm", options=options), "mlm": Entry(name="mlm")},
        noise=NoiseConfig(probability=0),
    )
    for made in generate_instructions(InstructionStream(rows(20), config, LANGUAGES, KNOWN, 1), 100):
        assert ("___" in made.prompt) == (made.objective == "tlm")
        assert (made.answer in made.prompt) == (made.objective == "mlm")


def test_objectives_are_drawn_by_weight_and_templates_evenly() -> None:
    made = list(generate_instructions(make(rows(50), {"mt": 3, "mlm": 1}), 8000))
    share = Counter(i.objective for i in made)
    assert binomtest(share["mt"], 8000, 0.75).pvalue > 1e-4
    counts = Counter(i.template for i in made if i.objective == "mt")
    assert len(counts) >= 10
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_both_directions_are_as_frequent() -> None:
    made = list(generate_instructions(make(rows(50), ["mt"]), 4000))
    assert binomtest(sum(i.target in NEW for i in made), 4000, 0.5).pvalue > 1e-4


@pytest.mark.parametrize("negatives", ["random", "hard", "paper"])
def test_xss_is_balanced(negatives: str) -> None:
    answers = Counter(
        i.answer for i in generate_instructions(make(rows(60), ["xss"], options={"negatives": negatives}), 4000)
    )
    assert set(answers) == {"yes", "no"}
    assert binomtest(answers["yes"], 4000, 0.5).pvalue > 1e-4


@pytest.mark.parametrize("negatives", ["random", "hard"])
def test_no_negative_is_a_translation(negatives: str) -> None:
    # Every sentence stands there three times: as it is, in capitals, and with another translation.
    corpus = rows(8)
    corpus += [ParallelRow(f"{row.id}b", {c: t.upper() for c, t in row.texts.items()}) for row in rows(8)]
    corpus += [
        ParallelRow(f"{row.id}c", {c: t if c in KNOWN else f"lain {t}" for c, t in row.texts.items()})
        for row in rows(8)
    ]
    originals = {(row.id[:2], code): text for row in corpus[:8] for code, text in row.texts.items()}
    for made in generate_instructions(make(corpus, ["xss"], options={"negatives": negatives}), 1500):
        same = originals[made.row[:2], made.target].lower() in made.prompt.lower()
        assert same == (made.answer == "yes"), made


def test_the_paper_s_negatives_are_the_same_pair_with_noise() -> None:
    corpus = rows(30)
    texts = {(row.id, code): text for row in corpus for code, text in row.texts.items()}
    for made in generate_instructions(make(corpus, ["xss"], options={"negatives": "paper"}, probability=0.5), 500):
        whole = texts[made.row, made.source] in made.prompt and texts[made.row, made.target] in made.prompt
        assert whole == (made.answer == "yes") or not whole


def test_hard_negatives_are_harder() -> None:
    draw = random.Random(2)
    vocabulary = [f"w{i}" for i in range(40)]
    corpus = [
        ParallelRow(str(i), {code: " ".join(draw.choices(vocabulary, k=draw.randint(3, 20))) for code in WORDS})
        for i in range(300)
    ]
    texts = {(row.id, code): text for row in corpus for code, text in row.texts.items()}

    def measure(negatives: str) -> tuple[float, float]:
        overlaps, ratios = [], []
        for made in generate_instructions(make(corpus, ["xss"], options={"negatives": negatives}), 400):
            if made.answer == "no":
                own = texts[made.row, made.target]
                fitting = (row.texts[made.target] for row in corpus if row.texts[made.target] in made.prompt)
                given = max(fitting, key=len)
                here, there = set(words(own)), set(words(given))
                overlaps.append(len(here & there) / len(here | there))
                ratios.append(min(len(own), len(given)) / max(len(own), len(given)))
        return sum(overlaps) / len(overlaps), sum(ratios) / len(ratios)

    (hard_overlap, hard_ratio), (overlap, ratio) = measure("hard"), measure("random")
    assert hard_overlap > overlap + 0.05
    assert hard_ratio > ratio + 0.1


def test_xss_needs_a_second_sentence() -> None:
    with pytest.raises(DataError, match=r"xss needs a second sentence in .* all rows"):
        list(generate_instructions(make([rows(1)[0]] * 3, ["xss"]), 20))


def test_names_in_prompts() -> None:
    named = LanguagesConfig(known=["eng"], new=["jav"], names={"jav": "Basa Jawi"})
    corpus = rows(20, ["eng", "jav"])
    prompts = [i.prompt for i in generate_instructions(make(corpus, ["mt"], languages=named, pivots=["eng"]), 50)]
    assert any("Basa Jawi" in prompt for prompt in prompts)
    assert not any("Javanese" in prompt for prompt in prompts)
    prompts = [i.prompt for i in generate_instructions(make(rows(20), ["mt"], templates=["ind"]), 200)]
    assert any("bahasa Jawa" in prompt for prompt in prompts)
    assert any("bahasa Inggris" in prompt for prompt in prompts)
    assert any("bahasa Indonesia" in prompt for prompt in prompts)
    assert not any("bahasa bahasa" in prompt.lower() for prompt in prompts)


def test_closed_questions_are_answered_in_the_language_of_the_prompt() -> None:
    made = generate_instructions(make(rows(20), ["xss"], templates=["eng", "ind"]), 400)
    answers = {(i.template[:3], i.answer) for i in made}
    assert answers == {("eng", "yes"), ("eng", "no"), ("ind", "ya"), ("ind", "tidak")}


def test_the_seam_is_left_to_the_encoder() -> None:
    for made in generate_instructions(make(rows(20), templates=["eng", "ind"]), 500):
        assert made.prompt == made.prompt.strip()
        assert made.answer == made.answer.strip()


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        make([])
    with pytest.raises(DataError, match=r"no row of the corpus has sun together with a pivot \(eng, ind\)"):
        make(rows(3, ["eng", "jav"]))
    with pytest.raises(IndexError, match="counted from 0"):
        make(rows(3))[-1]


# -- the rows in all directions --------------------------------------------------------------------------

PIVOTS, TARGETS = ["eng", "ind"], ["jav", "sun", "ind"]
SOME_ROWS = st.lists(
    st.builds(
        ParallelRow,
        st.integers(0, 99).map(str),
        st.dictionaries(st.sampled_from(["eng", "ind", "jav", "sun", "fra"]), st.sampled_from(["a", " ", ""])),
    ),
    max_size=25,
)


def test_directed_rows_by_hand() -> None:
    whole = ParallelRow("1", {"eng": "a", "ind": "b", "jav": "c", "fra": "d"})
    part = ParallelRow("2", {"eng": " ", "ind": "b", "sun": "c"})
    directed = DirectedRows([whole, part], PIVOTS, TARGETS)
    assert [directed[number] for number in range(directed.count)] == [
        (whole, "eng", "jav"),
        (whole, "eng", "ind"),
        (whole, "ind", "jav"),
        (whole, "jav", "eng"),
        (whole, "ind", "eng"),
        (whole, "jav", "ind"),
        (part, "ind", "sun"),
        (part, "sun", "ind"),
    ]


@given(SOME_ROWS)
def test_every_row_is_there_in_every_direction_between_a_pivot_and_a_target(several: list[ParallelRow]) -> None:
    between = [set(pair.split()) for pair in ("eng jav", "eng sun", "eng ind", "ind jav", "ind sun")]
    expected = [
        (number, source, target)
        for number, row in enumerate(several)
        for source, target in permutations([code for code, text in row.texts.items() if text.strip()], 2)
        if {source, target} in between
    ]
    try:
        directed = DirectedRows(several, PIVOTS, TARGETS)
    except DataError:
        reached = {code for _, source, target in expected for code in (source, target)}
        assert not several or not set(TARGETS) <= reached
        return
    found = [directed[number] for number in range(directed.count)]
    places = {id(row): number for number, row in enumerate(several)}
    assert sorted((places[id(row)], source, target) for row, source, target in found) == sorted(expected)
    used = len({number for number, _, _ in expected})
    assert (directed.counts.read, directed.counts.kept) == (len(several), used)
    assert sum(directed.counts.dropped.values()) == len(several) - used


# -- the weights of the objectives -----------------------------------------------------------------------

STAGES = [{"at": 0, "weights": {"mlm": 2}}, {"at": 100, "weights": {"tlm": 1, "mt": 3}}]


def scheduled(**given: object) -> InstructionsConfig:
    objectives = ["mlm", "tlm", "mt"]
    return InstructionsConfig.model_validate({"objectives": objectives, "schedule": given or None})


def shares(schedule: ObjectiveSchedule, k: int) -> Mapping[str, float]:
    sums = [0.0, *schedule.cumulative(k)]
    return {name: (b - a) / sums[-1] for name, a, b in zip(("mlm", "tlm", "mt"), sums, sums[1:], strict=False)}


def test_without_a_schedule_weights_stay() -> None:
    schedule = ObjectiveSchedule(scheduled())
    assert (
        shares(schedule, 0) == shares(schedule, 10**9) == pytest.approx({"mlm": 1 / 3, "tlm": 1 / 3, "mt": 1 / 3})
    )


def test_staged() -> None:
    schedule = ObjectiveSchedule(scheduled(shape="staged", stages=STAGES))
    for k in (0, 99):
        assert shares(schedule, k) == {"mlm": 1, "tlm": 0, "mt": 0}
    for k in (100, 10**9):
        assert shares(schedule, k) == {"mlm": 0, "tlm": 0.25, "mt": 0.75}


def test_linear() -> None:
    schedule = ObjectiveSchedule(scheduled(shape="linear", stages=STAGES))
    assert shares(schedule, 0) == {"mlm": 1, "tlm": 0, "mt": 0}
    assert shares(schedule, 40) == pytest.approx({"mlm": 0.6, "tlm": 0.1, "mt": 0.3})
    assert shares(schedule, 100) == shares(schedule, 101) == {"mlm": 0, "tlm": 0.25, "mt": 0.75}


def test_draws_follow_the_schedule() -> None:
    schedule = ObjectiveSchedule(scheduled(shape="linear", stages=STAGES))
    key = digest_key(1)
    drawn = sum(Draws(key, i).weighted(schedule.cumulative(40)) == 2 for i in range(4000))
    assert binomtest(drawn, 4000, 0.3).pvalue > 1e-4
    assert all(Draws(key, i).weighted(schedule.cumulative(5000)) != 0 for i in range(2000))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least 1 item"),
        ([{"at": 5, "weights": {"mt": 1}}], "the first stage must be at: 0, found 5"),
        ([STAGES[0], STAGES[0]], "each stage must begin later"),
        ([{"at": 0, "weights": {"mt": 0}}], "at least one weight must be above 0"),
        ([{"at": 0, "weights": {"mmt": 1}}], "'mmt', which is not among objectives. Did you mean 'mt'?"),
    ],
)
def test_wrong_schedules_are_refused(stages: object, message: str) -> None:
    with pytest.raises(ValueError, match="validation error") as error:
        scheduled(stages=stages)
    assert message in str(error.value)
