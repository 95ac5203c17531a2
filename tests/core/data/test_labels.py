"""Labels: kept as codes, and what is wrong with them said all at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.labels import Coded, check_labels
from core.errors import DataError, DataWarning


def where(split, index):
    return f"{split}.csv, line {index + 2}"


def problems(**splits):
    """The lines of the error."""
    with pytest.raises(DataError) as caught:
        check_labels(splits, where)
    assert caught.value.hint
    return [line.removeprefix("  - ") for line in caught.value.message.splitlines()[1:]]


@given(st.lists(st.text(max_size=2)))
def test_codes_spell_the_texts(texts):
    """One by one, in slices, and taken; distinct values are kept once."""
    coded = Coded.of(texts)
    assert list(coded) == texts
    assert list(coded[1:]) == texts[1:]
    assert len(set(coded.values)) == len(coded.values) == len(set(texts) - {""})
    places = np.arange(len(texts))[::-2]
    assert list(coded.take(places)) == [texts[i] for i in places]
    assert dict(zip(coded.values, coded.counts().tolist(), strict=True)) == {
        v: texts.count(v) for v in coded.values
    }


def test_good_labels_pass():
    """`retain` has labels of its own."""
    check_labels(
        {"train": ["a", "b", "a"], "select": ["a"], "report": Coded.of(["b", "b"]), "retain": ["x"]}, where
    )


def test_one_class_is_not_enough():
    """Nothing could be told apart."""
    assert problems(train=["a", "a"], report=["a"]) == [
        "there is one class alone, 'a', and nothing to tell apart"
    ]


def test_a_class_with_one_example_is_named_with_its_place():
    """In whichever split it stands."""
    assert problems(train=["a", "b", "b", "a"], report=["a", "b", "c"]) == [
        "the class 'c' has one example, in report (report.csv, line 4)"
    ]


def test_a_column_of_numbers_is_no_column_of_labels():
    """Where most labels stand once, what is asked for is another column."""
    with pytest.raises(DataError) as caught:
        check_labels({"train": [str(i) for i in range(9)]}, where)
    assert "data.label" in caught.value.hint


def test_a_label_that_is_never_trained_on_is_named_with_its_place_and_count():
    """In `report` and in `select`."""
    assert problems(train=["a", "b", "b", "a"], select=["d", "a", "d"], report=["b", "c", "c", "c"]) == [
        "the label 'd' stands in select, 2 times, and never in train (first: select.csv, line 2)",
        "the label 'c' stands in report, 3 times, and never in train (first: report.csv, line 3)",
    ]


def test_missing_labels_are_counted_and_the_first_named():
    """None and the empty text, in any split."""
    assert problems(train=["a", "b"] * 3 + [None] * 7, report=["a", "b"], retain=["x", ""]) == [
        "7 rows of train have no label: train.csv, line 8; train.csv, line 9; train.csv, line 10; train.csv, line 11;"
        " train.csv, line 12; and 2 more",
        "1 rows of retain have no label: retain.csv, line 3",
    ]
    assert "no row has a label" in problems(train=["", ""])


def test_all_that_is_wrong_is_said_at_once_and_long_lists_are_cut():
    """Five of a kind, and how many more."""
    lines = problems(train=["a", "a", "b", "b", ""], report=[str(i) for i in range(9)] + ["x"] * 2)
    assert len(lines) == 1 + 6 + 1
    assert lines[6] == "4 more classes with one example"
    assert lines[7].startswith("the label 'x' stands in report, 2 times")


def test_labels_that_are_likely_mistakes_are_told():
    """Alike but for spaces and case, or a word for what is missing; the labels stay as they are."""
    labels = ["pos", "pos ", "NEG", "neg", "nan"] * 2
    with pytest.warns(DataWarning) as caught:
        check_labels({"train": labels}, lambda split, index: f"row {index}")
    said = [str(one.message) for one in caught]
    assert said == [
        "labels: 'pos' and 'pos ' differ in spaces or case alone; write them alike if they are one",
        "labels: 'NEG' and 'neg' differ in spaces or case alone; write them alike if they are one",
        "labels: 'nan' looks like a missing value",
    ]
