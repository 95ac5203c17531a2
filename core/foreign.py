"""Weights that others wrote: the tensors of a safetensors file, or of a file that `torch.save` made, under the names
that an architecture gives them.

Nothing is unpickled but tensors (`torch.load(weights_only=True)`). What was done to make names fit is said in
notes; what does not fit is listed by `core.bases.fill`, and never skipped.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from core.bases import digest, fill, read_tensors
from core.data.stored import readable
from core.errors import BaseError, nearest

ENTRIES = ("state_dict", "model_state_dict", "model", "weights")
"""Under which checkpoints keep a model's state dict, beside the optimizer's and the epoch."""

WRAPPERS = ("module.", "_orig_mod.")
"""What `nn.DataParallel` and `torch.compile` put before every name."""


def read_foreign(path: Path, key: str | None, what: str) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors on the CPU, and notes on where in the file they stood: under `key`, or, without one, at the top
    or under the only one of `ENTRIES` that the file has. Raises `BaseError`."""
    _refuse_unreadable(path, what)
    if path.suffix == ".safetensors" or _is_safetensors(path):
        if key is not None:
            raise BaseError(
                f"{what}: {path} is a safetensors file, which has no entry {key!r}: it is one dict of tensors",
                "leave base.key out",
            )
        return read_tensors(path, what), []
    content = _unpickled(path, what)
    state, notes = _state_dict(content, key, path, what)
    odd = [f"{name}: {_said(value)}" for name, value in state.items() if not isinstance(value, Tensor)]
    odd += [f"{name!r}: a name that is no text" for name in state if not isinstance(name, str)]
    if odd:
        raise BaseError(
            f"{what}: {path} has entries that are no tensors:" + _listed(odd),
            "save the model's state_dict() alone",
        )
    return {name: tensor.detach() for name, tensor in state.items()}, notes


def fit(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    prefix: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> tuple[str, list[str]]:
    """Fill a model with a file's tensors; the digest of these under the model's names, and notes on what was done.
    Raises `BaseError` that lists all that do not fit, or those that hold NaN."""
    own = set(model.state_dict())
    named, notes = renamed(tensors, own, prefix, rename or {}, what)
    filled, more = completed(model, named)
    try:
        fill(model, filled, what)
    except BaseError as error:
        strip = prefix_to_strip(named, own)
        error.hint += (
            f", or strip {strip!r} from the names (`prefix` of the base source `file`)" if strip else ""
        )
        raise
    _refuse_nan(named, what)
    return digest(named), [*notes, *more]


def renamed(
    tensors: Mapping[str, Tensor], own: set[str], prefix: str | None, rename: Mapping[str, str], what: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the architecture's names (`own`): without `prefix`, or a wrapper's that all of them have
    and the architecture has not, and then with `rename` applied, from a tensor's name or a module's to
    another. Raises `BaseError` where the file has no such name, or two tensors get the same."""
    notes = []
    if prefix is None:
        for wrapper in WRAPPERS:
            if tensors and all(name.startswith(wrapper) for name in tensors):
                if not any(name.startswith(wrapper) for name in own):
                    prefix = wrapper
                    notes.append(f"the prefix {wrapper!r} that a wrapper left before every name is stripped")
                break
    elif not any(name.startswith(prefix) for name in tensors):
        raise BaseError(
            f"{what}: no tensor's name begins with the prefix {prefix!r}", _names(prefix, tensors)
        )
    unused = [old for old in rename if not any(_is_of(old, _cut(name, prefix)) for name in tensors)]
    if unused:
        raise BaseError(
            f"{what}: base.rename names {unused[0]!r}, and the file has no such tensor or module",
            _names(unused[0], [_cut(name, prefix) for name in tensors]),
        )
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = _cut(name, prefix)
        for old, wanted in rename.items():
            if _is_of(old, new):
                new = wanted + new[len(old) :]
                break
        if new in made:
            raise BaseError(
                f"{what}: two tensors of the file get the name {new!r}", "check prefix and rename"
            )
        made[new] = tensor
    return made, notes


def completed(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors, with those a file may rightly lack: one that is another's twin in the model (tied weights, which
    safetensors files keep once), and the counters of batch normalisation, which torch before 0.4.1 had not, as
    torch's own loading does. The counters are read only where `momentum` is None; there they have to be in
    the file."""
    own = model.state_dict(keep_vars=True)
    filled, notes = dict(tensors), []
    missing = [name for name in own if name not in tensors]
    for name in missing:
        twin = next((other for other in tensors if other in own and own[other] is own[name]), None)
        if twin is not None:
            filled[name] = tensors[twin]
            notes.append(f"{name} is not in the file, and is {twin} (tied weights)")
    counters = [name for name in missing if name not in filled and _is_idle_counter(model, name)]
    filled.update((name, torch.zeros_like(own[name])) for name in counters)
    if counters:
        notes.append(
            f"{len(counters)} counters num_batches_tracked are not in the file, as before torch 0.4.1, and start at 0"
        )
    return filled, notes


def prefix_to_strip(tensors: Mapping[str, Tensor], own: set[str]) -> str:
    """A first part of names without which more of the file's names would be the architecture's; empty if none."""
    best, most = "", sum(name in own for name in tensors)
    for prefix in {name[: name.index(".") + 1] for name in tensors if "." in name}:
        hits = sum(_cut(name, prefix) in own for name in tensors)
        if hits > most:
            best, most = prefix, hits
    return best


def _refuse_nan(tensors: Mapping[str, Tensor], what: str) -> None:
    wrong = {name: int(t.isnan().sum()) for name, t in tensors.items() if t.is_floating_point()}
    listed = [f"{name}: {count} of {tensors[name].numel()}" for name, count in wrong.items() if count]
    if listed:
        raise BaseError(
            f"{what}: its weights are not all numbers (NaN):" + _listed(listed),
            "get weights from before training broke",
        )


def _refuse_unreadable(path: Path, what: str) -> None:
    where = "" if path.is_absolute() else f" in {Path.cwd()}"
    with readable(path, BaseError, what):
        if path.is_dir():
            files = sorted(
                p.name for p in path.iterdir() if p.suffix in (".safetensors", ".pt", ".pth", ".th", ".bin")
            )
            raise BaseError(
                f"{what}: {path} is a folder; a file with weights was expected",
                f"give one of its files: {', '.join(files[:5])}" if files else "give the path of a file",
            )
        try:
            with path.open("rb") as file:
                file.read(1)
        except FileNotFoundError as error:
            raise BaseError(f"{what}: there is no file {path}{where}", _neighbour(path)) from error


def _neighbour(path: Path) -> str:
    """A hint with the name beside it that is nearest, where there is one."""
    try:
        hint = nearest(path.name, (other.name for other in path.parent.iterdir()))
    except OSError:  # a folder that is not there, or may not be listed
        hint = ""
    return hint if hint.startswith("did you") else "check the path"


def _is_safetensors(path: Path) -> bool:
    """By its first bytes: the length of a JSON header, and its brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _unpickled(path: Path, what: str) -> Any:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(2)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise BaseError(
                    f"{what}: {path} is a TorchScript archive: a program, which is not run here",
                    _conversion(path, f"torch.jit.load({str(path)!r}).state_dict()"),
                )
    elif start != b"PK" and start[:1] != b"\x80":
        raise BaseError(
            f"{what}: {path} ({size} bytes) is neither a safetensors file nor one that torch.save made",
            "give a file of weights in one of these two formats"
            if size
            else "the file is empty: get it again",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch raises whatever its reader stumbles over: EOFError, RuntimeError, IndexError, ...
        text = str(error)
        if (
            isinstance(error, UnpicklingError) and "Unsupported operand" not in text
        ):  # that is no pickle of torch's
            found = sorted(set(re.findall(r"GLOBAL ([\w.]+)", text)))
            names = f" (here {', '.join(found)})" if found else ""
            raise BaseError(
                f"{what}: {path} is a pickle that holds more than tensors{names}: opening it could run any code, so it"
                " is not opened",
                _conversion(path, f"torch.load({str(path)!r}, map_location='cpu', weights_only=False)"),
            ) from error
        said = (
            type(error).__name__ if isinstance(error, UnpicklingError) or not text else text.splitlines()[0]
        )
        raise BaseError(
            f"{what}: {path} ({size} bytes) is truncated or no file that torch.save made: {said.partition('. ')[0]}",
            "restore the file from where it came",
        ) from error


def _conversion(path: Path, loaded: str) -> str:
    """How to make a safetensors file of it, which is safe to open anywhere."""
    return (
        "if you trust where it came from, convert it once, in an environment that holds nothing of value:\n"
        f"    import torch, safetensors.torch; found = {loaded}\n"
        "    state = found.state_dict() if hasattr(found, 'state_dict') else found.get('state_dict', found);"
        f" safetensors.torch.save_file({{k: v.clone() for k, v in state.items()}},"
        f" {str(path.with_suffix('.safetensors'))!r})"
    )


def _state_dict(content: Any, key: str | None, path: Path, what: str) -> tuple[Mapping[Any, Any], list[str]]:
    if not isinstance(content, Mapping) or not content:
        raise BaseError(
            f"{what}: {path} holds {_said(content)}; a dict of tensors was expected",
            "save the model's state_dict()",
        )
    if key is not None:
        if key not in content:
            raise BaseError(f"{what}: {path} has no entry {key!r}", nearest(key, map(str, content)))
        if not isinstance(content[key], Mapping):
            raise BaseError(
                f"{what}: the entry {key!r} of {path} is {_said(content[key])}; a dict of tensors was expected",
                _dicts(content),
            )
        return content[key], []
    if any(isinstance(value, Tensor) for value in content.values()):
        return content, []
    known = [name for name in ENTRIES if isinstance(content.get(name), Mapping)]
    if len(known) != 1:
        entries = [f"{name}: {_said(value)}" for name, value in content.items()]
        which = (
            "several of which may hold the weights" if known else "none of which is known to hold the weights"
        )
        raise BaseError(f"{what}: {path} has these entries, {which}:{_listed(entries)}", _dicts(content))
    others = [str(name) for name in content if name != known[0]]
    beside = f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} left aside" if others else ""
    return content[known[0]], [f"the weights are the entry {known[0]!r} of {path.name}{beside}"]


def _dicts(content: Mapping[Any, Any]) -> str:
    names = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
    return f"say which with base.key: {', '.join(names)}" if names else "save the model's state_dict()"


def _is_idle_counter(model: nn.Module, name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    return (
        attribute == "num_batches_tracked" and isinstance(module, _NormBase) and module.momentum is not None
    )


def _cut(name: str, prefix: str | None) -> str:
    return name.removeprefix(prefix or "")


def _is_of(old: str, name: str) -> bool:
    return name == old or name.startswith(old if old.endswith(".") else f"{old}.")


def _names(wanted: str, names: Any) -> str:
    starts = {
        ".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)
    }
    hint = nearest(wanted.rstrip("."), starts)
    return (
        hint
        if hint.startswith("did you")
        else f"its names begin with {', '.join(sorted({n.split('.')[0] for n in names})[:8])}"
    )


def _said(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {len(value)}"
    return f"{type(value).__name__} {value!r}"[:60]


def _listed(lines: list[str]) -> str:
    return "".join(f"\n  - {line}" for line in lines)
