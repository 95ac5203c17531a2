"""The record of a run: JSON a line, whatever is written into it, on disk before a run can be lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.context import Gradient
from core.errors import OutputError
from core.events import Events


def test_events_of_before_the_file_was_opened_are_in_it(tmp_path):
    """The record begins with the run, not with its folder."""
    events = Events()
    events.emit("early", value=1)
    events.open(tmp_path / "events.jsonl")
    events.emit("late", value=torch.tensor(0.1))
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], line["value"]) for line in lines] == [("early", 1), ("late", pytest.approx(0.1))]
    assert lines[0]["seconds"] <= lines[1]["seconds"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("-inf"))])
def test_events_stay_json_where_a_number_is_not_finite(tmp_path, value):
    """JSON has no NaN: such numbers are written as text."""
    events = Events()
    events.open(tmp_path / "e")
    events.emit("step", loss=value)
    events.close()
    line = json.loads((tmp_path / "e").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert line["loss"] == str(float(value))


def test_small_numbers_keep_their_digits(tmp_path):
    """A learning rate of 1e-7 is not recorded as zero."""
    events = Events()
    events.open(tmp_path / "e")
    events.emit("step", lr=1.23456789e-7)
    events.close()
    assert json.loads((tmp_path / "e").read_text())["lr"] == pytest.approx(1.23456789e-7, rel=1e-5)


def test_many_events_reach_the_file_before_it_is_closed(tmp_path):
    """A run that is killed loses few lines."""
    events = Events()
    events.open(tmp_path / "e")
    for i in range(10 * Events.FLUSH_EVERY):
        events.emit("step", i=i)
    assert len((tmp_path / "e").read_text().splitlines()) == 10 * Events.FLUSH_EVERY
    events.close()


def test_steps_reach_the_file_before_it_is_closed_and_stay_in_order(tmp_path):
    """They wait for their losses, but not for long, and no other event overtakes them."""
    events = Events()
    events.open(tmp_path / "e")
    for step in range(1, 10 * Events.FLUSH_EVERY):
        events.step("adapted", step, torch.tensor(float(step)), 0.1)
    written = [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()]
    assert len(written) >= 9 * Events.FLUSH_EVERY
    events.step("adapted", 10 * Events.FLUSH_EVERY, torch.tensor(float("nan")), 1e-7)
    events.emit("epoch")
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()]
    assert [line.get("step") for line in lines] == [*range(1, 10 * Events.FLUSH_EVERY + 1), None]
    assert [line["loss"] for line in lines[:3]] == [1.0, 2.0, 3.0]
    assert (lines[-2]["loss"], lines[-2]["lr"]) == ("nan", 1e-7)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)


def test_steps_say_what_the_updater_knows_of_its_gradients(tmp_path):
    """Norm, clip factor and steps left out; read late, as the loss is, and nothing where the updater is silent."""
    events = Events()
    events.open(tmp_path / "e")
    events.step("adapted", 1, torch.tensor(1.0), 0.1)
    events.step("adapted", 2, torch.tensor(1.0), 0.1, Gradient(torch.tensor(4.0), torch.tensor(0.5)))
    events.step("adapted", 3, torch.tensor(1.0), 0.1, Gradient(float("inf"), 0.0))
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()]
    assert [line.get("grad_norm") for line in lines] == [None, 4.0, "inf"]
    assert [line.get("clip") for line in lines] == [None, 0.5, 0.0]
    assert [line.get("skipped") for line in lines] == [None, None, True]


def test_record_that_cannot_be_opened_is_an_output_error(tmp_path):
    """A path below a regular file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/events\.jsonl"):
        Events().open(tmp_path / "file" / "events.jsonl")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Path("a/b"), "a/b"),
        ({"rates": [0.5, float("nan")]}, {"rates": [0.5, "nan"]}),
        ([torch.tensor(2), torch.tensor(float("inf"))], [2, "inf"]),
        (np.float32(0.5), 0.5),
        ({1: (2, {3})}, {"1": [2, "{3}"]}),
    ],
)
def test_record_outlives_what_a_plugin_writes_into_it(tmp_path, value, read):
    """What is no JSON becomes text; the lines before and after it are there."""
    events = Events()
    events.open(tmp_path / "e")
    events.emit("before")
    events.emit("odd", value=value)
    events.emit("many", value=torch.ones(2))
    events.emit("after")
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["before", "odd", "many", "after"]
    assert lines[1]["value"] == read
    assert lines[2]["value"] == "tensor([1., 1.])"
