"""The author's tutorial, as far as it goes without an environment of its own; `tutorial.py` goes all the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.scaffold import new
from tests.contract import tutorial

PAGE = """
```console
make it  # exits with 3
use it
```

```python
read(it)
```

```python title="a/b.py"
x = 1
```
"""


def test_commands_and_files_are_taken_in_their_order_and_the_rest_is_for_reading() -> None:
    """With the code that a command says it exits with."""
    assert [tuple(step) for step in tutorial.steps(PAGE)] == [
        ("make it", 3, "", ""),
        ("use it", 0, "", ""),
        ("", 0, "a/b.py", "x = 1\n"),
    ]


def test_a_command_that_exits_otherwise_than_the_page_says_ends_it(tmp_path: Path) -> None:
    """With both codes."""
    tutorial.run(tutorial.Step("exit 3", 3), tmp_path, {})
    with pytest.raises(SystemExit, match="exits with 3, and the page says 0"):
        tutorial.run(tutorial.Step("exit 3"), tmp_path, {})


def test_an_author_who_follows_the_tutorial_writes_fewer_lines_than_sixty(tmp_path: Path) -> None:
    """What is not in the new package already, blank lines left out."""
    new("acme", "task", tmp_path)
    recipe = tmp_path / "taoke-acme/taoke_acme/recipes/wine.yaml"
    recipe.rename(recipe.with_name("men.yaml"))
    files = [step for step in tutorial.steps(tutorial.PAGE.read_text(encoding="utf-8")) if step.file]
    assert len(files) == 3
    written = [tutorial.written((tmp_path / step.file).read_text(), step.text) for step in files]
    assert sum(written) < tutorial.MOST
