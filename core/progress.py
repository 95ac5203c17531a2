"""What a person sees while a run goes on: a bar with rate and time left on a terminal or in a notebook,
plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.text import Text

if TYPE_CHECKING:
    from core.context import Context
    from core.contract import StepResult

EVERY = 0.1
"""Seconds between two looks at the loss on a terminal; elsewhere a line is written every `PLAIN_EVERY`."""

PLAIN_EVERY = 5.0


class Progress:
    """Everything goes to stderr (or into the notebook's cell), so that stdout carries the result alone.
    `quiet` shows only warnings."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        if self.console.is_jupyter:
            self.console = Console(quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        self._live = (self.console.is_terminal or self.console.is_jupyter) and not quiet
        self._quiet = quiet
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._who = ""
        self._began = 0.0
        self._next = 0.0

    def stage(self, name: str, detail: str) -> None:
        """A stage begins."""
        self.close()
        self.console.print(Text.assemble((f"{name:<10}", "bold"), f" {detail}"))

    def note(self, text: str) -> None:
        """A line within a stage."""
        self.close()
        self.console.print(f"{'':<10} {text}")

    def warn(self, message: str) -> None:
        """A warning, shown even when quiet."""
        print(f"warning: {message}", file=sys.stderr)

    def step(self, context: Context, result: StepResult) -> None:
        """A step is done. The loss is read only when it is about to be shown: reading it may wait for the
        device."""
        if self._quiet:
            return
        now = time.perf_counter()
        if context.step == 1 or self._who != context.contender:
            self._start(context, now)
        if now < self._next and context.step < context.steps:
            return
        self._next = now + (EVERY if self._live else PLAIN_EVERY)
        rate = (context.step - 1) / max(1e-9, now - self._began)  # since the first step's end
        speed = f", {rate:.{0 if rate >= 10 else 1}f} steps/s" if context.step > 1 else ""
        if self._bar is not None:
            text = f"loss {float(result.loss):.4f}{speed}"
            self._bar.update(self._task, completed=context.step, text=text)
            if context.step >= context.steps:
                self.close()
        else:
            left = f", {(context.steps - context.step) / rate:.0f} s left" if rate else ""
            line = f"step {context.step}/{context.steps}, loss {float(result.loss):.4f}{speed}{left}"
            print(f"{'':<10} {context.contender}: {line}", file=sys.stderr)

    def _start(self, context: Context, now: float) -> None:
        self.close()
        self._who, self._began, self._next = context.contender, now, now + (0 if self._live else PLAIN_EVERY)
        if self._live:
            self._bar = Bar(
                TextColumn(f"{'':<10} {context.contender:<8}"),
                BarColumn(30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=context.steps, text="")
            self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._who = ""
