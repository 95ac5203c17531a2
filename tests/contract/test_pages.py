"""One page a hook: its signature is the code's, its example runs, and what the page says of it then holds."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import hookspecs
from core.recipe import resolve_content
from core.recipe.files import override, parse_overrides
from core.runner import execute
from core.testing import host

PAGES = Path(__file__).parents[2] / "docs" / "contract" / "hooks"
HOOKS = {name: function for name, function in vars(hookspecs).items() if name.startswith("taoke_")}


def page(hook: str) -> str:
    return (PAGES / f"{hook.removeprefix('taoke_')}.md").read_text(encoding="utf-8")


def test_every_hook_has_its_page_and_every_page_its_hook() -> None:
    """And the table of contents lists them all."""
    assert {f"taoke_{path.stem}" for path in PAGES.glob("*.md")} == set(HOOKS)
    contents = (PAGES.parent / "README.md").read_text(encoding="utf-8")
    assert {f"taoke_{name}" for name in re.findall(r"\(hooks/(\w+)\.md\)", contents)} == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_has_the_signature_and_the_kind_of_the_code(hook: str) -> None:
    """A changed signature breaks the build until its page is changed."""
    signature = str(inspect.signature(HOOKS[hook])).replace("'", "")
    assert f"\n    {hook}{signature}\n" in page(hook)
    marks: Any = getattr(HOOKS[hook], f"{hookspecs.PROJECT}_spec")
    assert (
        page(hook)
        .partition(signature)[2]
        .strip()
        .startswith("First result." if marks["firstresult"] else "Collect")
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_a_page_s_example_does_what_the_page_says(hook: str, tmp_path: Path) -> None:
    """As a plugin file, in a run of the kit's recipe; the page's second block then holds."""
    code, after = re.findall(r"```python\n(.*?)```", page(hook), flags=re.DOTALL)
    plugin = tmp_path / "example.py"
    plugin.write_text(code, encoding="utf-8")
    changes = re.search(r"^Used with `(.*)`", page(hook), flags=re.MULTILINE)
    content = override(dict(host.RECIPE), parse_overrides(changes[1].split() if changes else []))
    resolved = resolve_content(content, "example", "example", plugin_files=[plugin, Path(host.__file__)])
    run = execute(resolved, out=tmp_path / "runs", device="cpu", quiet=True)
    folder = run.folder
    found = {
        "document": run.document,
        "folder": folder,
        "recipe": yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")),
        "events": _lines(folder / "events.jsonl"),
        "delta": json.loads((folder / "shell" / "delta.json").read_text(encoding="utf-8")),
        "predictions": {
            path.parent.name: _lines(path) for path in (folder / "predictions").glob("*/report.jsonl")
        },
    }
    exec(after, found)  # noqa: S102 (our own page)


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
