"""Train the base on the library's docstrings, from nothing, and write it with its card.

    python -m plugins.nlp.train_base [--workers 2] [--compile] [--checkpoint FILE] [--out FOLDER]

The same command on the same machine and Python gives the same weights, also where it was interrupted and continues
from its checkpoint; the number of workers changes nothing either. `--compile` is quicker, needs a C++ compiler, and
rounds differently. Hidden matrices are trained with Muon (https://kellerjordan.github.io/posts/muon/), embeddings and
norms with AdamW.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import random
import re
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.bases import save_base
from core.contract import Row, Split
from core.evidence.scores import score
from core.inference import predict
from plugins.nlp.data import HELD_OUT, PARTS, RUN, Reference, docstrings
from plugins.nlp.models import BASES, LanguageModel
from plugins.nlp.options import LanguageModellingOptions, ReferenceOptions
from plugins.nlp.tasks import LanguageModelling
from plugins.nlp.tokenizer import Tokenizer, learn_merges

NAME = "docstrings"
ARCHITECTURE: dict[str, Any] = {"vocabulary": 1024, "width": 160, "layers": 4, "heads": 5, "dropout": 0.1}
STEPS, WARMUP, HOLD = 2000, 150, 1000  # steps; lr is held until HOLD, then falls to zero linearly
SHARDS, WINDOWS, TOKENS = 2, 16, 192  # a step takes SHARDS batches of WINDOWS windows of TOKENS tokens
LR, MUON_DECAY, ADAMW_DECAY = 3e-3, 0.1, 0.01
EVERY = 200  # steps between lines of progress, and checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the base.")
    parser.add_argument("--workers", type=int, default=1, choices=(1, SHARDS), help="processes")
    parser.add_argument("--compile", action="store_true", help="compile the model")
    parser.add_argument("--checkpoint", type=Path, help="a file to continue from, and to write on the way")
    parser.add_argument("--out", type=Path, default=BASES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.workers == 1:
            work(0, options, folder)
        else:
            spawn(work, (options, folder), nprocs=options.workers)  # type: ignore[no-untyped-call]


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    """One process: the shards of its rank, or all of them where it is alone."""
    torch.set_num_threads(1)
    alone = options.workers == 1
    if not alone:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=options.workers
        )
    text = "\n".join(text for _, text in docstrings(held_out=False))
    merges = learn_merges(text, ARCHITECTURE["vocabulary"] - 257)
    starts = [match.end() for match in re.finditer("\n", text)]
    tokenizer = Tokenizer(merges)
    torch.manual_seed(0)
    model = LanguageModel(**ARCHITECTURE)
    computed: Any = torch.compile(model) if options.compile else model
    optimizers = _optimizers(model)
    first = 0
    if options.checkpoint and options.checkpoint.exists():
        first = _restore(options.checkpoint, model, optimizers)
    began = time.perf_counter()
    for step in range(first, STEPS):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1, (step + 1) / WARMUP, (STEPS - step) / (STEPS - HOLD))
        for shard in range(SHARDS) if alone else (rank,):
            tokens = batch(text, starts, tokenizer, step * SHARDS + shard)
            torch.manual_seed(step * SHARDS + shard)  # dropout
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                logits = computed(tokens[:, :-1])
                loss = functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
            (loss / SHARDS).backward()  # type: ignore[no-untyped-call]
        if not alone:
            _add_up(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if rank == 0 and (step + 1) % EVERY == 0:
            bits = held_out_score(model, merges)
            seconds = time.perf_counter() - began
            print(f"step {step + 1}: {bits:.4f} bits per byte held out, {seconds:.0f} s", flush=True)
            if options.checkpoint:
                _save(options.checkpoint, model, optimizers, step + 1)
    if rank == 0:
        write(options.out, model, merges, text, _command(options))


def batch(text: str, starts: list[int], tokenizer: Tokenizer, key: int) -> Tensor:
    """(WINDOWS, TOKENS + 1) int64: windows that begin at random lines of `text`, which is read as a ring."""
    rng = random.Random(key)  # noqa: S311 (nothing here is secret)
    rows = []
    for _ in range(WINDOWS):
        start = rng.choice(starts)
        piece = text[start : start + 10 * TOKENS]
        piece += text[: 10 * TOKENS - len(piece)]
        rows.append([tokenizer.bos, *tokenizer.encode(piece)[:TOKENS]])
    return torch.tensor(rows)


def held_out_score(model: nn.Module, merges: list[tuple[int, int]]) -> float:
    """Bits per byte on all docstrings that are held out, with the weights as they will be kept."""
    task = LanguageModelling(LanguageModellingOptions())
    state = task.fit([], {"merges": merges})
    kept = LanguageModel(**ARCHITECTURE)
    kept.load_state_dict({name: tensor.bfloat16() for name, tensor in model.state_dict().items()})
    rows = _held_out_rows()
    split = Split("retain", rows, [task.encode(row, state) for row in rows], state)
    predictions = predict(task, kept.eval(), split, torch.device("cpu"), 32)
    return score(task.metrics()[0], predictions)


@cache
def _held_out_rows() -> list[Row]:
    return Reference(ReferenceOptions()).rows()["retain"]


def write(folder: Path, model: nn.Module, merges: list[tuple[int, int]], text: str, command: str) -> None:
    """The weights in bfloat16, and the card."""
    card = {
        "architecture": ARCHITECTURE,
        "preprocessing": {"task": {"merges": merges}},
        "licence": "Apache-2.0",
        "origin": f"trained from nothing on the docstrings of Python {platform.python_version()}'s own library",
        "data": {
            "python": platform.python_version(),
            "bytes": len(text.encode()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "held_out": f"{HELD_OUT} in {PARTS} files, by a hash of the path",
            "left_out": f"docstrings that share {RUN} characters with a help topic",
        },
        "command": command,
        "torch": torch.__version__,
        "score": {"bits_per_byte on held-out docstrings": round(held_out_score(model, merges), 4)},
    }
    weights = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    print(save_base(folder, NAME, weights, card))


def _command(options: argparse.Namespace) -> str:
    """What makes the same weights again."""
    compiled = " --compile" if options.compile else ""
    return f"python -m plugins.nlp.train_base --workers {options.workers}{compiled}"


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    hidden = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    known = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [
        torch.optim.Muon(hidden, lr=LR, weight_decay=MUON_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LR, betas=(0.9, 0.95), weight_decay=ADAMW_DECAY),
    ]


def _add_up(model: nn.Module) -> None:
    """Every process gets the sum of all gradients."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    parts = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _save(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


def _restore(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"])


if __name__ == "__main__":
    main()
