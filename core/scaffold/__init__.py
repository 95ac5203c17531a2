"""A new plugin's package, from the templates beside this file."""

from __future__ import annotations

import re
from datetime import datetime
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import NamedTuple

from core.contract import API
from core.errors import OutputError, UsageError, nearest
from core.loader import installed
from core.version import version


class Sort(NamedTuple):
    """What a template makes: a line about it, the module that does the work, the recipe."""

    summary: str
    module: str
    recipe: str


KINDS = {
    "task": Sort("One of several labels for a row of numbers", "task", "wine"),
    "edit": Sort("A learned factor for each output of a dense layer", "edit", "gain"),
    "strategy": Sort("Gradual unfreezing, from the head to the first module", "strategy", "gradual"),
    "observer": Sort("The loss of every tenth step, as a table", "plugin", "watched"),
}


def new(name: str, kind: str, into: Path) -> list[Path]:
    """Write the package of a plugin called `name` into the folder `into/taoke-name`, and return its files.

    Raises `UsageError` where the name or the kind will not do, `OutputError` where the folder is there already or
    cannot be made; then nothing is left behind."""
    if kind not in KINDS:
        raise UsageError(f"there is no template for {kind!r}", nearest(kind, KINDS))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(
            f"{name!r} cannot be a plugin's name", "use small letters, digits and _, with a letter first"
        )
    if name in installed() or name in ("core", "host"):
        raise UsageError(f"a plugin {name!r} is installed already", "choose another name")
    sort = KINDS[kind]
    words = {
        "name": name,
        "package": f"taoke_{name}",
        "summary": sort.summary,
        "module": sort.module,
        "recipe": sort.recipe,
        "api": str(API),
        "version": version(),
        "year": str(datetime.now().year),
    }
    folder = into / f"taoke-{name}"
    templates = resources.files(__name__) / "templates"
    texts = {
        folder / target.replace("package", words["package"], 1): Template(text).substitute(words)
        for part in ("common", kind)
        for target, text in _texts(templates / part)
    }
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(
            f"{folder} is there already", "choose another name, or another folder with --into"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made: {error.strerror}", "choose another folder with --into"
        ) from error
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(texts)


def _texts(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Path in the new package, and text, of every template below a folder."""
    found = []
    for entry in folder.iterdir():
        name = entry.name.replace("dot-", ".", 1)
        if entry.is_dir():
            found += _texts(entry, f"{prefix}{name}/")
        elif name.endswith(".in"):
            found.append((f"{prefix}{name.removesuffix('.in')}", entry.read_text(encoding="utf-8")))
    return found
