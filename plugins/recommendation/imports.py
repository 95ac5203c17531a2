"""Which modules a Python file imports, and the table of it for the standard library's own files."""

from __future__ import annotations

import ast
import csv
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "data"


def imported(source: bytes, file: str) -> set[str]:
    """The top-level modules that the source imports, wherever in it. Relative imports stay in their own package
    and do not count. Raises `SyntaxError` or `ValueError`, as `ast.parse`, which name `file`."""
    modules = set()
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


def read_table(folder: Path = FOLDER) -> dict[str, frozenset[str]]:
    """File, as a path below the library's folder, to the modules it imports."""
    with (folder / "imports.csv").open(encoding="utf-8", newline="") as lines:
        return {row["file"]: frozenset(row["imports"].split()) for row in csv.DictReader(lines)}


def write_table(table: Mapping[str, frozenset[str]], folder: Path) -> None:
    """As `read_table` reads it, sorted."""
    with (folder / "imports.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["file", "imports"])
        writer.writerows([file, " ".join(sorted(table[file]))] for file in sorted(table))
