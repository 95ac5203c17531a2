"""Reading imports from sources, and the table that comes with the plugin."""

from __future__ import annotations

import json
import platform
import sysconfig
from pathlib import Path

import pytest

from core.errors import DataError
from plugins.recommendation.extract import MODULES, card, extract
from plugins.recommendation.imports import FOLDER, imported, read_table, write_table

SOURCE = b"""
import os.path, sys as system
from xml.dom import minidom
from . import sibling
from .package import other

def later():
    try:
        import json
    except ImportError:
        from collections import abc
"""


def test_imports_are_found_wherever_they_stand_and_by_their_top_level() -> None:
    """In functions and handlers too; what stays in its own package does not count."""
    assert imported(SOURCE, "here.py") == {"os", "sys", "xml", "json", "collections"}


def test_a_source_that_does_not_parse_is_named() -> None:
    """The error is Python's own, with the file in it."""
    with pytest.raises(SyntaxError, match=r"here\.py"):
        imported(b"import (", "here.py")


def test_extracting_keeps_the_librarys_public_modules(tmp_path: Path) -> None:
    """Files without any are left out, so is what is installed beside the library; broken ones are listed."""
    files = {
        "test/test_os.py": "import os, test.support, _thread, numpy, __future__",
        "plain.py": "x = 1",
        "broken.py": "import (",
        "site-packages/installed.py": "import os",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    table, invalid = extract(tmp_path)
    assert table == {"test/test_os.py": frozenset({"os", "test"})}
    assert invalid == ["broken.py"]


def test_a_library_without_its_tests_is_refused(tmp_path: Path) -> None:
    """Some distributions leave them out."""
    with pytest.raises(DataError, match="without its tests"):
        extract(tmp_path)


def test_the_table_is_the_one_its_card_describes() -> None:
    """Counts of files, modules and pairs."""
    described = json.loads((FOLDER / "imports.json").read_text(encoding="utf-8"))
    counted = card(read_table(), [])
    for count in ("files", "modules", "pairs"):
        assert counted[count] == described[count]


def test_the_table_says_what_the_library_imports() -> None:
    """In the very library it was extracted from; every twentieth file, for all would take a while."""
    version = json.loads((FOLDER / "imports.json").read_text(encoding="utf-8"))["python"]
    library = Path(sysconfig.get_path("stdlib"))
    if platform.python_version() != version or not (library / "test" / "test_os.py").is_file():
        pytest.skip(f"needs Python {version} with Lib/test")
    table = read_table()
    for file in sorted(table)[::20]:
        assert imported((library / file).read_bytes(), file) & MODULES == table[file]


def test_a_written_table_reads_the_same(tmp_path: Path) -> None:
    """And is written in one way only: the file in the plugin's folder is what the script would write."""
    write_table(read_table(), tmp_path)
    assert (tmp_path / "imports.csv").read_bytes() == (FOLDER / "imports.csv").read_bytes()
