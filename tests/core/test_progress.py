"""What a person sees: a bar with rate and time left on a terminal, plain lines elsewhere, never on stdout."""

from __future__ import annotations

import pytest
import torch

from core.contract import StepResult
from core.progress import Progress


def walk(context, progress, steps=20):
    """Take a training of so many steps, with losses 1, 1/2, 1/3, ..."""
    context.steps = steps
    for context.step in range(1, steps + 1):
        progress.step(context, StepResult(torch.tensor(1.0 / context.step), 1.0))


def test_terminal_gets_a_bar_with_rate_loss_and_time_left(stages, capsys, monkeypatch):
    """It goes away when the training is done."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress()
    walk(stages().context, progress)
    told = capsys.readouterr()
    assert told.out == ""
    for part in ("adapted", "20/20", "steps/s", "loss 0.05", "\x1b["):
        assert part in told.err
    progress.close()


@pytest.mark.parametrize("variable", ["NO_COLOR", "TAOKE_NOTHING"])
def test_elsewhere_plain_lines_say_the_same(stages, capsys, monkeypatch, variable):
    """The last step always, others every few seconds; no terminal codes."""
    monkeypatch.setenv(variable, "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    progress = Progress()
    progress.stage("fine_tune", "20 epochs of [this] and [/that]")
    walk(stages().context, progress)
    progress.note("kept [as it is]")
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "fine_tune  20 epochs of [this] and [/that]"
    assert lines[1].strip().startswith("adapted: step 20/20, loss 0.0500, ")
    assert lines[1].endswith(" steps/s, 0 s left")
    assert lines[2].strip() == "kept [as it is]"
    assert len(lines) == 3
    assert "\x1b" not in told.err


def test_quiet_shows_warnings_alone(stages, capsys):
    """They are no progress."""
    progress = Progress(quiet=True)
    progress.stage("choose", "a base")
    progress.note("a note")
    walk(stages().context, progress)
    assert capsys.readouterr().err == ""
    progress.warn("take care")
    assert capsys.readouterr().err == "warning: take care\n"


def test_loss_is_read_only_when_it_is_shown(stages):
    """Reading it waits for the device: of a thousand fast steps, few are read."""
    reads = []

    class Loss:
        def __float__(self):
            reads.append(1)
            return 1.0

    context = stages().context
    context.steps = 1000
    progress = Progress(quiet=True)
    for context.step in range(1, 1000):
        progress.step(context, StepResult(Loss(), 1.0))
    assert len(reads) < 10
