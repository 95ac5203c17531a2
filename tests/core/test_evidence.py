"""Evidence: scores are sums over sums, intervals are paired, and the verdict follows from them alone."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import DataError
from core.evidence.paired import Interval, Resamples, interval
from core.evidence.scores import parts, score
from core.evidence.verdict import INCONCLUSIVE, NO_SHIP, SHIP, judge
from core.evidence.weigh import weigh

NORMAL = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


class Mean:
    """The mean of a row's `value`, weighted by its `weight`."""

    unit = "share"

    def __init__(self, name="mean", higher_is_better=True):
        self.name, self.higher_is_better = name, higher_is_better

    def score(self, row):
        weight = row.get("weight", 1.0)
        return row["value"] * weight, weight


def rows(values, groups=None, weights=None):
    """Prediction rows that hold these values."""
    count = len(values)
    groups, weights = groups or [None] * count, weights or [1.0] * count
    return [
        {"id": str(i), "value": float(v), "weight": w, **({} if g is None else {"group": g})}
        for i, (v, g, w) in enumerate(zip(values, groups, weights, strict=True))
    ]


def stacked(*contenders):
    """(contenders, rows, 2) with denominators of 1."""
    return np.stack([np.stack([np.asarray(c, float), np.ones(len(c))], axis=1) for c in contenders])


# --- scores ------------------------------------------------------------------------------------------------


def test_score_is_the_sum_over_the_sum_and_not_the_mean_of_ratios():
    """A row of weight 3 counts three times."""
    assert score(Mean(), rows([1.0, 0.0], weights=[3.0, 1.0])) == 0.75
    assert parts(Mean(), rows([1.0, 0.0], weights=[3.0, 1.0])).tolist() == [[3.0, 3.0], [0.0, 1.0]]


def test_rows_that_weigh_nothing_have_no_score():
    """Rather than a NaN that travels on."""
    with pytest.raises(DataError, match="mean: 2 predictions weigh nothing"):
        score(Mean(), rows([1.0, 1.0], weights=[0.0, 0.0]))


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)))
def test_evaluating_again_gives_the_number_of_the_run_to_the_bit(values):
    """`eval` scores one contender alone, the run several stacked: the same sum in the same order."""
    alone = score(Mean(), rows(values))
    predictions = {("base", "report"): rows(values * 0.5), ("adapted", "report"): rows(values)}
    evidence = weighed(predictions, resamples=1)
    assert evidence.scores["adapted"]["mean"] == alone


# --- paired bootstrap --------------------------------------------------------------------------------------


def test_two_rows_have_the_resamples_that_can_be_counted():
    """0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4: these quantiles are exact."""
    drawn = Resamples([None, None], 10_000, 0).scores(stacked([0, 1]))[0]
    assert sorted(set(drawn)) == [0.0, 0.5, 1.0]
    assert np.mean(drawn == 0.5) == pytest.approx(0.5, abs=0.02)  # four standard errors of 10,000 draws
    assert interval(0.5, drawn, 0.95) == Interval(0.5, 0.0, 1.0)
    assert interval(0.5, drawn, 0.4) == Interval(0.5, 0.5, 0.5)


def test_interval_of_a_mean_is_the_normal_one():
    """800 symmetric values: ±1.96 s/√n, up to the error of quantiles from 10,000 resamples (3 % of s/√n, four
    times) and what a bootstrap of 800 rows differs by (under 2 %)."""
    rng = np.random.default_rng(7)
    half = rng.normal(size=400)
    values = np.concatenate([half, -half])
    spread = values.std() / math.sqrt(len(values))
    drawn = Resamples([None] * 800, 10_000, 3).scores(stacked(values))[0]
    for confidence, point in ((0.95, NORMAL), (0.8, 1.2815515655446004)):
        found = interval(0.0, drawn, confidence)
        assert found.low == pytest.approx(-point * spread, abs=0.14 * spread)
        assert found.high == pytest.approx(point * spread, abs=0.14 * spread)
    assert drawn.std() == pytest.approx(spread, rel=0.04)


def test_pairing_removes_what_the_contenders_share():
    """Two contenders that differ by a constant differ by exactly that in every resample, however rows vary; drawn
    apart, the same scores would leave everything open."""
    hard = np.random.default_rng(0).normal(size=200)
    one, other = Resamples([None] * 200, 2000, 0).scores(stacked(hard + 0.125, hard))
    paired = interval(0.125, one - other, 0.95)
    assert (paired.low, paired.high) == pytest.approx((0.125, 0.125), abs=1e-12)
    apart = Resamples([None] * 200, 2000, 1).scores(stacked(hard))[0]
    unpaired = interval(0.125, one - apart, 0.95)
    assert unpaired.low < 0 < 0.25 < unpaired.high


def test_groups_are_drawn_whole():
    """Five equal rows a group say no more than one row a group: the same draws, the same scores."""
    values = np.random.default_rng(0).normal(size=30)
    groups = [f"{i}" for i in range(30) for _ in range(5)]
    grouped = Resamples(groups, 500, 0).scores(stacked(np.repeat(values, 5)))
    single = Resamples([f"{i}" for i in range(30)], 500, 0).scores(stacked(values))
    apart = Resamples([None] * 150, 500, 0).scores(stacked(np.repeat(values, 5)))
    np.testing.assert_allclose(grouped, single, rtol=1e-12, atol=1e-12)
    assert grouped.std() > 1.8 * apart.std()  # √5 = 2.2 if rows were independent


def test_rows_of_a_group_need_not_stand_together():
    """A group is a name; a row without one is its own group, even beside a group of its number's name."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    one = Resamples(["a", "b", "a", None, None], 300, 0).scores(stacked(values))
    order = [2, 0, 1, 3, 4]
    other = Resamples(["a", "a", "b", None, None], 300, 0).scores(stacked([values[i] for i in order]))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert len(set(Resamples(["row 0", None], 50, 0).scores(stacked([0.0, 1.0]))[0])) == 3


def test_same_seed_gives_the_same_bits_whatever_the_block(monkeypatch):
    """Resamples are drawn in blocks to bound memory; another seed gives others."""
    values = stacked(np.random.default_rng(0).normal(size=50))
    one = Resamples([None] * 50, 400, 5).scores(values)
    again = Resamples([None] * 50, 400, 5).scores(values)
    other = Resamples([None] * 50, 400, 6).scores(values)
    monkeypatch.setattr("core.evidence.paired.BLOCK", 50 * 7)
    blocks = Resamples([None] * 50, 400, 5).scores(values)
    assert np.array_equal(one, again)
    np.testing.assert_allclose(one, blocks, rtol=1e-12, atol=1e-12)
    assert not np.array_equal(one, other)


@given(
    arrays(np.float64, st.integers(2, 40), elements=st.floats(-10, 10)),
    st.integers(0, 2**31),
    st.floats(0.51, 0.99),
)
def test_interval_holds_what_resamples_can_reach(values, seed, confidence):
    """Low is not above high, and neither leaves the range of the rows."""
    drawn = Resamples([None] * len(values), 100, seed).scores(stacked(values))[0]
    found = interval(float(values.mean()), drawn, confidence)
    assert values.min() - 1e-9 <= found.low <= found.high <= values.max() + 1e-9


def test_resamples_without_weight_do_not_spoil_the_interval():
    """Where most rows weigh nothing, some resamples have no score; the others decide."""
    values = np.zeros((1, 3, 2))
    values[0, 0] = [0.5, 1.0]
    drawn = Resamples([None] * 3, 1000, 0).scores(values)[0]
    assert np.isnan(drawn).any()
    assert interval(0.5, drawn, 0.95) == Interval(0.5, 0.5, 0.5)


# --- verdict -----------------------------------------------------------------------------------------------

BETTER, UNCLEAR, WORSE = Interval(0.2, 0.1, 0.3), Interval(0.1, -0.1, 0.3), Interval(-0.2, -0.3, -0.1)
LITTLE, SOME, MUCH = Interval(0.0, -0.01, 0.05), Interval(0.05, 0.04, 0.06), Interval(0.2, 0.1, 0.3)


@pytest.mark.parametrize("base", [BETTER, UNCLEAR, WORSE])
@pytest.mark.parametrize("trivial", [None, BETTER, UNCLEAR, WORSE])
@pytest.mark.parametrize("forgot", [None, LITTLE, SOME, MUCH])
@pytest.mark.parametrize("scratch", [None, BETTER, WORSE])
def test_verdict_is_ship_only_where_every_answer_is_yes(base, trivial, forgot, scratch):
    """No-ship where one answer is no, inconclusive otherwise; scratch is a remark and asks nothing."""
    gains = {"base": base, "majority": trivial, "scratch": scratch}
    gains = {name: gain for name, gain in gains.items() if gain is not None}
    answers = [{BETTER: "yes", UNCLEAR: "open", WORSE: "no"}[gain] for gain in (base, trivial) if gain]
    answers += [
        {LITTLE: "yes", SOME: "open", MUCH: "no", None: "open"}[forgot]
    ]  # None: it cannot be measured
    wanted = NO_SHIP if "no" in answers else INCONCLUSIVE if "open" in answers else SHIP
    verdict = judge(gains, forgot, 0.05)
    assert verdict.verdict == wanted
    assert len(verdict.reasons) == len(gains) + 1
    assert all(any(name in reason for reason in verdict.reasons) for name in gains)


@pytest.mark.parametrize("forgot", [LITTLE, SOME, MUCH])
def test_forgetting_is_not_asked_about_without_a_bound(forgot):
    """`max_forgetting` left out reports and does not judge."""
    assert judge({"base": BETTER}, forgot, None).verdict == SHIP


@pytest.mark.parametrize(
    ("gain", "verdict"), [(Interval(0.1, 0.0, 0.2), INCONCLUSIVE), (Interval(-0.1, -0.2, 0.0), INCONCLUSIVE)]
)
def test_interval_that_touches_zero_decides_nothing(gain, verdict):
    """Above means above."""
    assert judge({"base": gain}).verdict == verdict


def test_reasons_say_what_scratch_means():
    """Only where the adapted model is not better than scratch did the base not help."""
    assert "the base did not help" in judge({"base": BETTER, "scratch": WORSE}).reasons[1]
    assert "the base did not help" in judge({"base": BETTER, "scratch": UNCLEAR}).reasons[1]
    assert "the base did not help" not in judge({"base": BETTER, "scratch": BETTER}).reasons[1]
    assert "the base did not help" not in judge({"base": WORSE}).reasons[0]


# --- weighing ----------------------------------------------------------------------------------------------


def weighed(predictions, metric=None, trivial=(), **settings):
    """`weigh` with a test's settings."""
    metric = metric or Mean()
    defaults = {"confidence": 0.95, "max_forgetting": None, "resamples": 200, "seed": 0}
    return weigh(predictions, [metric], metric, list(trivial), **{**defaults, **settings})


def contenders(**values):
    """Predictions on `report` by contender."""
    return {(name, "report"): rows(value) for name, value in values.items()}


def test_differences_are_to_the_base_and_gains_of_the_adapted():
    """For every contender both; the verdict speaks of the base, the best trivial contender and scratch alone."""
    predictions = contenders(
        base=[0, 0, 1, 0], low=[0, 0, 0, 0], high=[1, 0, 1, 0], scratch=[1, 1, 1, 1], adapted=[1, 1, 1, 0]
    )
    evidence = weighed(predictions, trivial=["low", "high"])
    assert evidence.scores["adapted"] == {"mean": 0.75}
    assert {name: found["mean"].value for name, found in evidence.differences.items()} == {
        "low": -0.25,
        "high": 0.25,
        "scratch": 0.75,
        "adapted": 0.5,
    }
    assert evidence.best_trivial == "high"
    assert {name: gain.value for name, gain in evidence.gains.items()} == {
        "base": 0.5,
        "low": 0.75,
        "high": 0.25,
        "scratch": -0.25,
    }
    assert [reason.split(":")[0].split()[-1] for reason in evidence.verdict.reasons] == [
        "base",
        "high",
        "scratch",
    ]


@pytest.mark.parametrize("higher", [True, False])
def test_better_is_positive_in_gains_whichever_way_the_metric_points(higher):
    """Less loss is more gain, with its bounds the right way round; the difference keeps the metric's sign."""
    rng = np.random.default_rng(0)
    one, other = rng.uniform(size=(2, 50))
    better, worse = (one + 0.5, other) if higher else (one, other + 0.5)
    predictions = contenders(base=worse, good=better, bad=worse - 1 if higher else worse + 1, adapted=better)
    evidence = weighed(predictions, Mean(higher_is_better=higher), trivial=["good", "bad"])
    gain, difference = evidence.gains["base"], evidence.differences["adapted"]["mean"]
    assert 0 < gain.low < gain.value < gain.high
    sign = 1 if higher else -1
    assert gain.value == pytest.approx(sign * (better.mean() - worse.mean()))
    assert difference.value == pytest.approx(sign * gain.value)
    assert sorted([difference.low, difference.high]) == sorted([sign * gain.low, sign * gain.high])
    assert difference.low < difference.high
    assert evidence.best_trivial == "good"


def test_differences_and_forgetting_are_paired():
    """Rows that vary much, contenders that differ by a constant: no width is left."""
    hard = np.random.default_rng(0).normal(size=100)
    predictions = contenders(base=hard, adapted=hard + 0.125)
    predictions |= {("base", "retain"): rows(hard + 10), ("adapted", "retain"): rows((hard + 10) * 0.75)}
    evidence = weighed(predictions)
    for found, value in ((evidence.gains["base"], 0.125), (evidence.forgetting, 0.25)):
        assert (found.low, found.value, found.high) == pytest.approx((value, value, value), abs=1e-12)


@pytest.mark.parametrize("higher", [True, False])
def test_forgetting_is_the_share_of_the_base_s_score_that_was_lost(higher):
    """0.8 to 0.6 of an accuracy is a quarter; 2 to 3 bits is a half."""
    before, after = (0.8, 0.6) if higher else (2.0, 3.0)
    predictions = contenders(base=[0.0] * 20, adapted=[1.0] * 20)
    predictions |= {("base", "retain"): rows([before] * 20), ("adapted", "retain"): rows([after] * 20)}
    lost = 0.25 if higher else 0.5
    evidence = weighed(predictions, Mean(higher_is_better=higher), max_forgetting=lost + 0.01)
    assert evidence.forgetting.value == pytest.approx(lost)
    assert (evidence.forgetting.low, evidence.forgetting.high) == pytest.approx((lost, lost))
    assert evidence.retained == {
        "base": {"mean": pytest.approx(before)},
        "adapted": {"mean": pytest.approx(after)},
    }
    assert (
        weighed(predictions, Mean(higher_is_better=higher), max_forgetting=lost - 0.01).verdict.verdict
        == NO_SHIP
    )


def test_learning_more_of_the_old_task_is_negative_forgetting():
    """And no reason not to ship."""
    predictions = contenders(base=[0.0] * 20, adapted=[1.0] * 20)
    predictions |= {("base", "retain"): rows([0.5] * 20), ("adapted", "retain"): rows([0.75] * 20)}
    evidence = weighed(predictions, max_forgetting=0.0)
    assert evidence.forgetting.value == pytest.approx(-0.5)
    assert evidence.verdict.verdict == SHIP


def test_base_that_scores_zero_on_retain_has_nothing_to_forget():
    """A share of nothing is no number."""
    predictions = contenders(base=[0.0] * 5, adapted=[1.0] * 5)
    predictions |= {("base", "retain"): rows([0.0] * 5), ("adapted", "retain"): rows([0.0] * 5)}
    assert weighed(predictions, max_forgetting=0.1).forgetting is None


def test_weighing_is_a_pure_function():
    """The same predictions and seed, the same evidence to the bit; JSON holds all of it."""
    values = np.random.default_rng(0).uniform(size=40)
    predictions = contenders(base=values, one=values / 2, adapted=values * 2)
    one, two = (weighed(predictions, trivial=["one"]).to_json() for _ in range(2))
    assert one == two
    assert json.loads(json.dumps(one)) == one
    other = weighed(predictions, trivial=["one"], seed=1).to_json()
    assert other["contenders"] == one["contenders"]
    assert other["differences"] != one["differences"]


def test_confidence_widens_the_intervals():
    """The gate's confidence is that of every interval."""
    values = np.random.default_rng(0).uniform(size=60)
    predictions = contenders(base=values, adapted=np.roll(values, 1) + 0.1)
    widths = []
    for confidence in (0.6, 0.9, 0.99):
        found = weighed(predictions, confidence=confidence, resamples=1000)
        assert found.confidence == confidence
        widths.append(found.gains["base"].high - found.gains["base"].low)
    assert all(narrow < wide for narrow, wide in itertools.pairwise(widths))


def test_evidence_of_a_run_follows_from_the_predictions_it_kept(toy_run):
    """Every number of evidence.json, recomputed from the rows on disk with the run's own settings."""
    from core.seeds import derive_seed

    kept = {
        (path.parent.name, path.stem): [json.loads(line) for line in path.read_text().splitlines()]
        for path in toy_run.folder.glob("predictions/*/*.jsonl")
    }
    recorded = json.loads((toy_run.folder / "evidence.json").read_text())

    class Accuracy:
        name, unit, higher_is_better = "accuracy", "share", True

        def score(self, row):
            return float(row["label"] == row["target"]), 1.0

    order = [(name, "report") for name in recorded["contenders"]]
    order += [("base", "retain"), ("adapted", "retain")]
    assert set(order) == set(kept)
    again = weigh(
        {key: kept[key] for key in order},
        [Accuracy()],
        Accuracy(),
        recorded["trivial"],
        confidence=0.95,
        max_forgetting=None,
        resamples=2000,
        seed=derive_seed(0, "bootstrap"),
    ).to_json()
    assert again == {key: recorded[key] for key in again}


# --- metrics of the corpus -----------------------------------------------------------------------------------


class CorpusMean(Mean):
    """As `Mean`, worked out over all rows at once."""

    def corpus(self, rows):
        parts = np.array([self.score(row) for row in rows])

        def weighted(weights):
            numerator, denominator = weights @ parts
            return numerator / denominator if denominator else math.nan

        return weighted

    def breakdown(self, rows):
        return {"odd": rows[1]["value"]}


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-10, 10)))
def test_a_metric_of_the_corpus_gets_the_resamples_of_a_metric_of_rows(values):
    """The same mean as a sum over rows and as a whole: the same scores, the same intervals, groups included."""
    groups = [str(i // 2) for i in range(len(values))]
    predictions = {
        ("base", "report"): rows(values[::-1], groups),
        ("adapted", "report"): rows(values, groups),
    }
    by_row, by_corpus = (weighed(predictions, metric=metric) for metric in (Mean(), CorpusMean()))
    assert by_row.scores["adapted"]["mean"] == pytest.approx(by_corpus.scores["adapted"]["mean"])
    one, other = by_row.gains["base"], by_corpus.gains["base"]
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-9)
    assert score(CorpusMean(), predictions["adapted", "report"]) == by_corpus.scores["adapted"]["mean"]


def test_a_corpus_that_leaves_nothing_to_score_is_refused():
    """Rather than a NaN that travels on."""
    with pytest.raises(DataError, match="mean: 2 predictions hold nothing to score"):
        score(CorpusMean(), rows([1.0, 1.0], weights=[0.0, 0.0]))


def test_a_metric_s_parts_are_kept_by_contender():
    """Under the metric's name; a metric without parts is not there."""
    predictions = contenders(base=[0, 1], adapted=[1, 0])
    assert weighed(predictions, metric=CorpusMean()).to_json()["breakdowns"] == {
        "mean": {"base": {"odd": 1.0}, "adapted": {"odd": 0.0}}
    }
    assert weighed(predictions).to_json()["breakdowns"] == {}
