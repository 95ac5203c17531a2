"""Rows by content: ids, duplicates, leaks, and what of `retain` is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from core.data.rows import Lazy
from core.data.stored import Stored
from core.errors import DataError
from core.rows import (
    _label_digest,
    content_digest,
    data_digest,
    duplicates,
    identify,
    judged,
    refuse_leaks,
)

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
contents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), contents, max_size=4))
def test_digest_ignores_the_order_of_a_dict(value):
    """The same keys and values, inserted the other way round."""
    assert content_digest(dict(reversed(value.items()))) == content_digest(value)


@given(contents, contents)
def test_digest_tells_different_contents_apart(one, other):
    """Equal digests mean equal contents (types count: 1, 1.0 and True are three)."""
    if repr(one) != repr(other) and not_only_order(one, other):
        assert content_digest(one) != content_digest(other)


def not_only_order(one, other):
    """Whether two values still differ once their dicts are sorted."""
    return repr(ordered(one)) != repr(ordered(other))


def ordered(value):
    """The value with sorted dicts."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ab", b"ab"),
        (["a", "b"], ["ab"]),
        (["a", ["b"]], [["a"], "b"]),
        ([], {}),
        ([[], []], [[[]]]),
        ("1", 1),
        (1, 1.0),
        (1, True),
        (None, "None"),
        (np.zeros(4, "f4"), np.zeros((2, 2), "f4")),
        (np.zeros(2, "f4"), np.zeros(1, "f8")),
        (np.zeros(2, "i4"), np.zeros(2, "f4")),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_digest_tells_look_alikes_apart(one, other):
    """Types, nesting, dtypes and shapes count."""
    assert content_digest(one) != content_digest(other)


def test_digest_of_a_tensor_is_its_array_s_whatever_the_layout():
    """Tensors, arrays and transposed views of equal values are one content."""
    array = np.arange(6, dtype="f4").reshape(2, 3)
    turned = np.asfortranarray(array)
    assert content_digest(torch.from_numpy(array)) == content_digest(array) == content_digest(turned)


def test_digest_is_the_same_in_every_version():
    """Ids stand in shells and predictions: a change of them is a change of all of them."""
    assert content_digest({"b": [1, "x", None], "a": np.arange(3)}) == "d9172893adce9ca6"


@pytest.mark.parametrize(
    ("value", "name"), [({1, 2}, "set"), (np.array(["a", {}], dtype=object), "ndarray"), (object(), "object")]
)
def test_content_without_a_digest_says_what_it_is(value, name):
    """A set has no order to hash, and an array of objects holds nothing but addresses."""
    with pytest.raises(DataError, match=f"a row's inputs or target hold a {name}"):
        content_digest([value])


def test_digest_of_a_numpy_scalar_is_not_its_repr():
    """numpy 1 and 2 print scalars differently; ids must not depend on that."""
    assert content_digest(np.float32(1.5)) == content_digest(np.asarray(1.5, "f4"))


def test_tensor_of_bfloat16_has_a_digest_of_its_own():
    """numpy has no such type; the content is hashed all the same."""
    ones = torch.ones(3, dtype=torch.bfloat16)
    assert content_digest(ones) == content_digest(ones.clone())
    assert content_digest(ones) not in (content_digest(ones * 2), content_digest(ones.half()))


def test_text_that_is_not_unicode_has_a_digest():
    """Files read with surrogateescape hold lone surrogates."""
    assert content_digest("a\udc80") != content_digest("a\udc81")


def test_equal_rows_get_ordinals_and_every_id_is_one_row():
    """What hashes equal counts as the same example, in the order it comes; targets do not matter."""
    rows = identify([Row("a", 1), Row("b", 2), Row("a", 3)])
    first, second, third = (row.id for row in rows)
    assert first.endswith("-0")
    assert third == first.replace("-0", "-1")
    assert len({first, second, third}) == 3
    assert [row.target for row in rows] == [1, 2, 3]


def test_duplicates_count_contents_that_stand_in_two_splits():
    """Each pair that shares any, each content once."""
    splits = {
        "train": identify([Row("a"), Row("a"), Row("b")]),
        "select": identify([Row("b"), Row("c")]),
        "report": identify([Row("a"), Row("d")]),
    }
    assert duplicates(splits) == {("train", "select"): 1, ("train", "report"): 1}


def test_leak_is_refused_whichever_split_comes_first():
    """`report` before `train` is no way around."""
    for pair in (("train", "report"), ("report", "train")):
        with pytest.raises(DataError, match="in both train and report: 3"):
            refuse_leaks({pair: 3}, allowed=False)
        refuse_leaks({pair: 3}, allowed=True)
    refuse_leaks({("train", "select"): 3}, allowed=False)


@pytest.mark.parametrize("held", [True, False])
def test_leak_shows_the_first_examples_and_where_they_stand(held, tmp_path):
    """Texts as they are, files by their paths, what says nothing to anybody by its id; no more than three."""
    for name in ("one.png", "copy.png"):
        (tmp_path / name).write_bytes(b"picture")

    def given(*inputs):
        rows = [Row(value) for value in inputs]
        return identify(rows if held else Lazy(len(rows), rows.__getitem__))

    train = given("a", {"image": Stored(tmp_path / "one.png")}, b"bytes", "x" * 500, "b", "c")
    report = given("z", "a", {"image": Stored(tmp_path / "copy.png")}, "a", b"bytes", "x" * 500, "c")
    with pytest.raises(DataError) as caught:
        refuse_leaks({("train", "report"): 5}, allowed=False, splits={"train": train, "report": report})
    one, copy = tmp_path / "one.png", tmp_path / "copy.png"
    assert caught.value.message.splitlines()[1:] == [
        "  - 'a' (row 1 of train, row 2 of report)",
        f"  - {one} = {copy} (row 2 of train, row 3 of report)",
        f"  - {train[2].id} (row 3 of train, row 5 of report)",
        "  - and 2 more",
    ]
    with pytest.raises(DataError) as caught:
        refuse_leaks({("train", "report"): 1}, allowed=False, splits={"train": train[3:4], "report": report})
    assert len(caught.value.message) < 300
    assert "'xxx" in caught.value.message


def test_digest_of_long_targets_holds_none_of_them():
    """Labels are remembered, a hundred thousand texts to be written are not."""
    before = _label_digest.cache_info().currsize
    rows = identify([Row(i, "a summary of it " * 100 + str(i)) for i in range(10)])
    assert data_digest(rows) != data_digest(rows[:9])
    assert _label_digest.cache_info().currsize == before


def test_half_of_retain_is_judged_and_adding_rows_moves_none():
    """About half of the rows are looked at, and those of fewer rows are the same ones."""
    rows = judged("retain", [Row(i) for i in range(400)])
    assert 150 < len(rows) < 250
    fewer = judged("retain", [Row(i) for i in range(0, 400, 3)])
    assert [row.inputs for row in fewer] == [row.inputs for row in rows if row.inputs % 3 == 0]


def test_all_rows_of_every_other_split_are_judged():
    """Only `retain` is halved."""
    for split in ("train", "select", "report"):
        assert [row.inputs for row in judged(split, [Row(i) for i in range(20)])] == list(range(20))


def test_equal_contents_are_in_the_same_half_of_retain():
    """A content that stands ten times is judged ten times or not at all."""
    judged_inputs = [row.inputs for row in judged("retain", [Row(i % 10) for i in range(100)])]
    assert {judged_inputs.count(i) for i in range(10)} == {0, 10}


def test_a_group_is_in_one_half_of_retain():
    """Rows that share a group are judged together or not at all."""
    counts = [row.group for row in judged("retain", [Row(i, group=f"g{i % 24}") for i in range(240)])]
    assert {counts.count(f"g{i}") for i in range(24)} == {0, 10}


def test_data_digest_depends_on_rows_and_their_order():
    """Equal rows in equal order, equal digest; another order or another row, another."""
    rows = identify([Row(1), Row(2)])
    assert data_digest(rows) == data_digest(identify([Row(1), Row(2)]))
    assert data_digest(rows) != data_digest(rows[::-1])
    assert data_digest(rows) != data_digest(rows[:1])


# --- as the command line tells it ---------------------------------------------------------------------------


def test_leak_of_train_into_report_is_refused(refused):
    """With how many, why, and the word that allows it."""
    error = refused("data.leak=true")
    assert error["kind"] == "DataError"
    assert "in both train and report: 1" in error["message"]
    assert "`allow: [duplicates]`" in error["hint"]


def test_leak_is_allowed_by_name(toy):
    """`allow: [duplicates]` lets the same data through, and says so on stderr no more than once."""
    outcome = toy("data.leak=true", "allow=[duplicates]", name="plan")
    assert outcome.code == 0, outcome
    assert outcome.document["examples"]["report"] == 201


def dataset(plugin_file, rows):
    """A plugin with the dataset `other.data`, whose rows are given as Python text."""
    return plugin_file(
        "other",
        f"""
        @hookimpl
        def taoke_register():
            return [Component("dataset", "other.data", "", f"{{__name__}}:Data")]

        class Data:
            def rows(self):
                some = [Row([float(i), float(j)], "abcd"[i % 4]) for i in range(8) for j in range(3)]
                return {rows}
        """,
    )


@pytest.mark.parametrize(
    ("rows", "overrides", "says", "hint"),
    [
        (
            "{'train': some[:8], 'report': some[8:]}",
            ["evaluate.retain=false"],
            "no rows in the split 'select'",
            "options",
        ),
        (
            "{'train': some[:8], 'select': [], 'report': some[8:]}",
            ["evaluate.retain=false"],
            "no rows in the split 'select'",
            "check the dataset's options",
        ),
        (
            "{'train': some[:8], 'select': some[8:9], 'report': some[9:]}",
            [],
            "no rows in the split 'retain'",
            "set evaluate.retain to false",
        ),
        (
            "{'train': some, 'test': some}",
            [],
            "makes the unknown split 'test'",
            "train, select, report, retain",
        ),
        (
            "{'train': some[:8], 'select': some[8:9], 'report': some[9:], 'retain': [Row([2.5, 1.5], 'a')]}",
            [],
            "(of 1, none falls into the half that is looked at once)",
            "set evaluate.retain to false",
        ),
    ],
)
def test_split_that_is_missing_or_empty_is_refused(refused, plugin_file, rows, overrides, says, hint):
    """Which split, of which dataset, and what to do."""
    error = refused("data.dataset=other.data", *overrides, plugins=[dataset(plugin_file, rows)])
    assert error["kind"] == "DataError"
    assert says in error["message"]
    assert hint in error["hint"]


def test_group_and_target_survive_identification():
    """Only the id is new."""
    row = Row([1], "t", group="g")
    (identified,) = identify([row])
    assert identified == replace(row, id=identified.id)
