"""Checks each contender's result, then times all of them in turn, in one process."""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import setting_of_this_run
from benchmarks.update import (
    deepspeed_cpu,
    finetune,
    ours,
    ours_float32,
    torch_compiled,
    torch_default,
    torch_fused,
)
from benchmarks.update.cases import Built, Case, Step, cases, seconds
from core.optim import cpu

RIVALS: Mapping[str, Any] = {
    "torch, fused AdamW": torch_fused,
    "torch, default AdamW": torch_default,
    "torch, compiled": torch_compiled,
    "DeepSpeed CPU Adam": deepspeed_cpu,
}
OURS = "core.optim"
FLOAT32 = "core.optim, float32 state"


def contenders(case: Case, *, compiled: bool) -> dict[str, Any]:
    """By name. The compiled chain takes minutes to compile for hundreds of tensors: one only, where asked for."""
    if case.state != "float32":
        return {OURS: ours, FLOAT32: ours_float32}
    rivals = dict(RIVALS)
    if not (compiled and len(case.shapes) == 1 and case.more):
        del rivals["torch, compiled"]
    if find_spec("deepspeed") is None or case.device != "cpu":
        del rivals["DeepSpeed CPU Adam"]
    return {OURS: ours, **rivals}


def verify(case: Case, modules: Mapping[str, Any]) -> None:
    """After three steps with different gradients, every contender has moved every parameter, and every average of
    one, by as much as ours has (with moments in 8 bits: but for 1.2 % by the norm of all), and cleared the gradients
    where that belongs to the step.
    Raises `AssertionError`."""
    small = case.smaller()
    ways: dict[str, Tensor] = {}
    for name, module in modules.items():
        parameters = small.parameters()
        before = [parameter.detach().clone() for parameter in parameters] * (2 if case.more else 1)
        built: Built = module.build(small, parameters, small.starts(parameters))
        for seed in range(3):
            for parameter, gradient in zip(parameters, small.gradients(seed), strict=True):
                assert parameter.grad is not None  # noqa: S101
                parameter.grad.copy_(gradient * 4.0**seed)  # AdamW by itself does not notice a common factor
            built.step()
        ways[name] = torch.cat([*parameters, *built.averages()]).detach() - torch.cat(before)
        if case.more and any(
            bool(parameter.grad.any()) for parameter in parameters if parameter.grad is not None
        ):
            raise AssertionError(f"{case.name}: {name} leaves gradients that are not cleared")
    mine = ways[OURS]
    farthest = float(mine.abs().max())
    allowed = 1e-4 * farthest + 3 * 2**-22  # a parameter of size 4 is rounded by 2^-22 at most, thrice
    for name, way in ways.items():
        if case.state == "float32":
            differs = float((mine - way).abs().max()) > allowed
        else:
            differs = float((mine - way).norm()) > 0.012 * float(way.norm())  # rounded by chance
        if differs or farthest < 0.001:
            raise AssertionError(f"{case.name}: {name} does not compute what {OURS} does")


def bandwidth(size: int, device: str) -> Iterator[float]:
    """GB/s of a sum in place: two streams read, one written, again and again."""
    one, other = torch.ones(size, device=device), torch.ones(size, device=device)

    def add() -> None:
        one.add_(other)

    add()
    while True:
        yield 12 * size / seconds(add, device) / 1e9


def timed(case: Case, modules: Mapping[str, Any], rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each round by contender, and the bandwidth of each round; all take their turn in every round, first
    to last and last to first. Whose hundreds of small tensors are made later has them closer together: there, each is
    once the first to make them."""
    found: dict[str, list[float]] = {name: [] for name in modules}
    widths: list[float] = []
    measure = bandwidth(max(case.size, 1 << 20), case.device)
    names = list(modules)
    turns = len(names) if case.small else 1
    for turn in range(turns):
        order = names[turn:] + names[:turn]
        seats = {name: Seat(case, modules[name]) for name in order}
        for number in range(20 * rounds // turns if case.small else rounds):
            if case.rivals:
                widths.append(next(measure))
            for name in order if number % 2 else reversed(order):
                found[name].append(seats[name].seconds())
        seats.clear()
    return found, widths


class Seat:
    """A contender with parameters of its own, which are given the same gradients before each step."""

    def __init__(self, case: Case, module: Any) -> None:
        parameters = case.parameters()
        self._gradients = [p.grad for p in parameters if p.grad is not None]
        self._kept = [gradient.clone() for gradient in self._gradients]
        starts = case.starts(parameters) if case.more else []
        self._step: Step = module.build(case, parameters, starts).step
        self._device = case.device
        for _ in range(2):
            self._step()

    def seconds(self) -> float:
        for gradient, kept in zip(self._gradients, self._kept, strict=True):
            gradient.copy_(kept)
        return seconds(self._step, self._device)


def rows(case: Case, found: Mapping[str, list[float]], widths: list[float]) -> Iterator[dict[str, Any]]:
    """Without `widths`, nothing about bandwidth."""
    mine = statistics.median(found[OURS])
    for name, times in found.items():
        low, middle, high = statistics.quantiles(times, n=4)
        traffic = 48 if name == FLOAT32 else case.traffic
        speed = traffic * case.size / middle / 1e9
        paired = [time / own for time, own in zip(times, found[OURS], strict=True)]
        yield {
            "case": case.name,
            "contender": name,
            "ms": round(middle * 1e3, 4),
            "spread": [round(low * 1e3, 4), round(high * 1e3, 4)],
            "gb_per_s": round(speed, 2) if widths else None,
            "share": round(speed / statistics.median(widths), 3) if widths else None,
            "ratio": round(middle / mine, 3),
            "paired": [round(ratio, 3) for ratio in statistics.quantiles(paired, n=4)],
        }


def measure(millions: int, rounds: int, *, compiled: bool, device: str) -> dict[str, Any]:
    """The document: all cases with all contenders. `ratio` is a contender's time over ours, `gb_per_s` counts the
    bytes that have to move, `share` is its part of the bandwidth of a sum in place of the same size, `spread` the
    quartiles of `ms`; `paired` those of the ratio within each round, which noise that lasts longer than a round leaves
    alone."""
    found: list[dict[str, Any]] = []
    for case in cases(millions, device):
        modules = contenders(case, compiled=compiled)
        verify(case, modules)
        times, widths = timed(case, modules if case.rivals else {OURS: ours}, rounds)
        found += rows(case, times, widths)
        gc.collect()
    for case in finetune.cases(device):
        modules = {OURS: ours, "torch, fused AdamW": torch_fused}
        finetune.verify(case, modules)
        found += rows(case, finetune.timed(case, modules, rounds), [])
    return {
        **setting_of_this_run(),
        "command": f"python -m core bench update --millions {millions} --rounds {rounds} --device {device}"
        + (" --compiled" if compiled else ""),
        "lacking": finetune.LACKING,
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "isa": cpu.isa(),
        "load": round(os.getloadavg()[0], 1),
        "cases": found,
    }


def render(console: Console, document: Mapping[str, Any]) -> None:
    table = Table(
        "case", "contender", "ms", "quartiles", "GB/s", "of the bandwidth", "time over ours", "in a round"
    )
    for row in document["cases"]:
        low, high = row["spread"]
        least, _, most = row["paired"]
        table.add_row(
            row["case"],
            row["contender"],
            f"{row['ms']:.3f}",
            f"{low} to {high}",
            str(row.get("gb_per_s") or ""),
            f"{row['share']:.0%}" if row.get("share") else "",
            f"{row['ratio']:.2f}",
            f"{least:.2f} to {most:.2f}",
        )
    console.print(table)
    if document["lacking"]:
        console.print(f"no fine-tuning: not installed: {', '.join(document['lacking'])}")
    said = [document[key] for key in ("machine", "device", "threads", "isa", "load")]
    console.print("{}, on {}, {} threads, {}, load {}".format(*said))
