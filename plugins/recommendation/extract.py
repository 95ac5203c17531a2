"""Extracts from the running interpreter's library which file imports which of its modules.

    python -m plugins.recommendation.extract [FOLDER]

Writes `imports.csv`, and `imports.json`, which says where the table comes from. A run reads the table and not the
library, so that it is the same on every machine. Needs an interpreter that comes with `Lib/test`.
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
import warnings
from collections.abc import Mapping
from pathlib import Path

from core.errors import DataError
from plugins.recommendation.imports import FOLDER, imported, write_table

MODULES = {name for name in sys.stdlib_module_names | {"test"} if not name.startswith("_")}
"""The library's public modules, and `test`, which `sys.stdlib_module_names` leaves out."""


def extract(library: Path) -> tuple[dict[str, frozenset[str]], list[str]]:
    """(file to the public modules of the library that it imports, files that are no valid Python). Files that
    import none are left out. Raises `DataError` where the library has no tests."""
    if not (library / "test" / "test_os.py").is_file():
        raise DataError(
            f"the library in {library} comes without its tests", "use a Python that ships Lib/test"
        )
    table, invalid = {}, []
    for path in sorted(library.rglob("*.py")):
        file = path.relative_to(library).as_posix()
        if file.startswith(("site-packages/", "config-", "_sysconfigdata")):
            continue  # what is installed beside the library, or made when this interpreter was built
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                modules = imported(path.read_bytes(), file)
        except (SyntaxError, ValueError):  # some tests are about such files
            invalid.append(file)
            continue
        if modules & MODULES:
            table[file] = frozenset(modules & MODULES)
    return table, invalid


def card(table: Mapping[str, frozenset[str]], invalid: list[str]) -> dict[str, object]:
    return {
        "what": "files of Python's standard library and the public modules of it that they import: facts, no text",
        "python": platform.python_version(),
        "files": len(table),
        "modules": len(frozenset().union(*table.values())),
        "pairs": sum(map(len, table.values())),
        "left out, not valid Python": len(invalid),
        "command": "python -m plugins.recommendation.extract",
    }


def main(folder: Path) -> None:
    table, invalid = extract(Path(sysconfig.get_path("stdlib")))
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder)
    text = json.dumps(card(table, invalid), indent=1)
    (folder / "imports.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
