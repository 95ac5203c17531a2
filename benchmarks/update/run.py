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
from torch import Tensor, nn

from benchmarks import setting_of_this_run
from benchmarks.update import deepspeed_cpu, finetune, ours, torch_compiled, torch_default, torch_fused
from benchmarks.update.cases import Built, Case, Step, cases, seconds
from core.optim import cpu

RIVALS: Mapping[str, Any] = {
    "torch, fused AdamW": torch_fused,
    "torch, default AdamW": torch_default,
    "torch, compiled": torch_compiled,
    "DeepSpeed CPU Adam": deepspeed_cpu,
}
OURS = "core.optim"


def contenders(case: Case, *, compiled: bool) -> dict[str, Any]:
    """By name. The compiled chain takes minutes to compile for hundreds of tensors: one only, where asked for."""
    if case.state != "float32":
        return {OURS: ours}
    rivals = dict(RIVALS)
    if not (compiled and len(case.shapes) == 1 and case.more):
        del rivals["torch, compiled"]
    if find_spec("deepspeed") is None or case.device != "cpu":
        del rivals["DeepSpeed CPU Adam"]
    return {OURS: ours, **rivals}


def verify(case: Case, modules: Mapping[str, Any]) -> None:
    """After three steps with different gradients, every contender has moved every parameter, and every average of
    one, by as much as ours has, and cleared the gradients where that belongs to the step.
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
                parameter.grad.copy_(gradient)
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
        if float((mine - way).abs().max()) > allowed or farthest < 0.001:
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
    """Seconds of each round by contender, and the bandwidth of each round; all take their turn in every round."""
    built: dict[str, tuple[list[nn.Parameter], list[Tensor], Step]] = {}
    for name, module in modules.items():
        parameters = case.parameters()
        kept = [p.grad.clone() for p in parameters if p.grad is not None] if case.size < 10**7 else []
        step: Step = module.build(case, parameters, case.starts(parameters) if case.more else []).step
        for _ in range(2):
            step()
        built[name] = parameters, kept, step
    found: dict[str, list[float]] = {name: [] for name in modules}
    widths, measure = [], bandwidth(max(case.size, 1 << 20), case.device)
    for _ in range(rounds if case.size >= 10**7 else 20 * rounds):
        widths.append(next(measure))
        for name, (parameters, kept, step) in built.items():
            for parameter, gradient in zip(parameters, kept, strict=bool(kept)):
                assert parameter.grad is not None  # noqa: S101
                parameter.grad.copy_(gradient)
            found[name].append(seconds(step, case.device))
    return found, widths


def rows(case: Case, found: Mapping[str, list[float]], widths: list[float]) -> Iterator[dict[str, Any]]:
    """Without `widths`, nothing about bandwidth."""
    mine = statistics.median(found[OURS])
    for name, times in found.items():
        low, middle, high = statistics.quantiles(times, n=4)
        speed = case.traffic * case.size / middle / 1e9
        yield {
            "case": case.name,
            "contender": name,
            "ms": round(middle * 1e3, 4),
            "spread": [round(low * 1e3, 4), round(high * 1e3, 4)],
            "gb_per_s": round(speed, 2) if widths else None,
            "share": round(speed / statistics.median(widths), 3) if widths else None,
            "ratio": round(middle / mine, 3),
        }


def measure(millions: int, rounds: int, *, compiled: bool, device: str) -> dict[str, Any]:
    """The document: all cases with all contenders. `ratio` is a contender's time over ours, `gb_per_s` counts the
    bytes that have to move, `share` is its part of the bandwidth of a sum in place of the same size, `spread` the
    quartiles."""
    found: list[dict[str, Any]] = []
    plain = None
    for case in cases(millions, device):
        modules = contenders(case, compiled=compiled)
        verify(case, modules)
        times, widths = timed(case, modules, rounds)
        made = list(rows(case, times, widths))
        if case.state == "float32" and plain is None:
            plain = made[0]["ms"]
        elif case.state != "float32":
            made.append({**made[0], "contender": "core.optim, float32 state, of the first case", "ms": plain})
            made[-1]["ratio"] = round((plain or 0.0) / made[0]["ms"], 3)
            for key in ("spread", "gb_per_s", "share"):
                made[-1].pop(key)
        found += made
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
    table = Table("case", "contender", "ms", "quartiles", "GB/s", "of the bandwidth", "time over ours")
    for row in document["cases"]:
        low, high = row.get("spread", ("", ""))
        table.add_row(
            row["case"],
            row["contender"],
            f"{row['ms']:.3f}",
            f"{low} to {high}" if low else "",
            str(row.get("gb_per_s") or ""),
            f"{row['share']:.0%}" if row.get("share") else "",
            f"{row['ratio']:.2f}",
        )
    console.print(table)
    if document["lacking"]:
        console.print(f"no fine-tuning: not installed: {', '.join(document['lacking'])}")
    said = [document[key] for key in ("machine", "device", "threads", "isa", "load")]
    console.print("{}, on {}, {} threads, {}, load {}".format(*said))
