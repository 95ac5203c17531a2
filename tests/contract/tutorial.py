"""Follows docs/contract/tutorial.md to the letter, in a fresh environment.

    python tests/contract/tutorial.py           # installs the project first, as constraints.txt pins it
    python tests/contract/tutorial.py --fast    # sees the packages of the environment that runs it instead

A block `console` holds commands, one a line, each of which has to exit with 0, or as `# exits with N` behind it says. A
block with `title="FILE"` is the whole text of that file. Any other block is for reading.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from difflib import ndiff
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contract" / "tutorial.md"
MOST = 60
"""Lines, fewer than which an author writes."""


class Step(NamedTuple):
    """A command with the code that it exits with, or a file with its text."""

    command: str = ""
    code: int = 0
    file: str = ""
    text: str = ""


def steps(page: str) -> list[Step]:
    """In the page's order."""
    found = []
    for language, title, text in re.findall(
        r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', page, flags=re.DOTALL | re.MULTILINE
    ):
        if title:
            found.append(Step(file=title, text=text))
        elif language == "console":
            for line in text.splitlines():
                command, _, code = line.partition("# exits with ")
                found.append(Step(command.strip(), int(code or 0)))
    return found


def written(before: str, after: str) -> int:
    """Lines of `after` that are neither blank nor were there before."""
    lines = ndiff(before.splitlines(), after.splitlines())
    return sum(line.startswith("+ ") and bool(line[2:].strip()) for line in lines)


def environment(folder: Path, *, fast: bool) -> dict[str, str]:
    """A new virtual environment, as a shell has it that activated it."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    bin_ = folder / ("Scripts" if os.name == "nt" else "bin")
    made = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "TAOKE_PLUGINS")}
    made |= {
        "VIRTUAL_ENV": str(folder),
        "PATH": f"{bin_}{os.pathsep}{made['PATH']}",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "TAOKE_CACHE": str(folder / "cache"),
    }
    if fast:
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        asked = subprocess.run([bin_ / "python", "-c", where], check=True, capture_output=True, text=True)
        lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
        (Path(asked.stdout.strip()) / "shared.pth").write_text("".join(lines), encoding="utf-8")
    else:
        run(Step(f"pip install -q '{ROOT}'"), folder.parent, made)
    return made


def run(step: Step, folder: Path, variables: dict[str, str]) -> None:
    """Raises `SystemExit` where it ends otherwise than it has to."""
    print(f"\n$ {step.command}", flush=True)
    began = time.monotonic()
    done = subprocess.run(step.command, shell=True, cwd=folder, env=variables, check=False)  # noqa: S602 (our own page)
    print(f"  exits with {done.returncode}, after {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode != step.code:
        sys.exit(
            f"{PAGE}: `{step.command}` exits with {done.returncode}, and the page says {step.code}: mend either"
        )


def follow(folder: Path, *, fast: bool) -> int:
    """All steps, below `folder`; how many lines an author wrote."""
    began = time.monotonic()
    variables = environment(folder / "venv", fast=fast)
    print(f"\nthe environment took {(time.monotonic() - began) / 60:.1f} minutes")
    began, lines = time.monotonic(), 0
    for step in steps(PAGE.read_text(encoding="utf-8")):
        if step.command:
            run(step, folder, variables)
            continue
        path = folder / step.file
        if not path.parent.is_dir():
            sys.exit(
                f"{PAGE}: {step.file} is to be written, and there is no folder {path.parent.name}: mend the page"
            )
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(step.text, encoding="utf-8")
        lines += written(before, step.text)
        print(f"\n{step.file}: {written(before, step.text)} lines written")
    print(f"\nthe page took {(time.monotonic() - began) / 60:.1f} minutes; the author wrote {lines} lines")
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="install nothing but the plugins themselves")
    fast = parser.parse_args(arguments).fast
    folder = Path(tempfile.mkdtemp(prefix="tutorial-"))
    try:
        lines = follow(folder, fast=fast)
    finally:
        shutil.rmtree(folder)
    if lines >= MOST:
        sys.exit(f"{PAGE}: an author is to write fewer than {MOST} lines: shorten the example")


if __name__ == "__main__":
    main(sys.argv[1:])
