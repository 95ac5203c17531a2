"""The pages: links that lead somewhere, commands that exist, nothing left to be filled in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/*.md", "examples/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page: str) -> None:
    """From where the page stands."""
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_be_filled_in(page: str) -> None:
    """No placeholder: neither a comment in the text nor a heading with one word in capitals below it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!--" not in text
    assert re.findall(r"^(?:FIGURES|LIMITS|TODO|TBD)$", text, flags=re.MULTILINE) == []


def test_the_readme_has_one_command_to_run_and_one_to_test() -> None:
    """Each on one line that can be pasted; CI takes the second out of the page."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv ")]
    assert [line.rpartition("&& ")[2] for line in commands] == [
        ".venv/bin/python -m core run",
        ".venv/bin/python -m pytest",
    ]
    assert all("-c constraints.txt" in line for line in commands)


@pytest.mark.parametrize("page", ["docs/contract/task.md", "docs/contract/metrics.md"])
def test_what_the_contract_s_pages_show_works(page: str) -> None:
    """The Python on each page is run, from its first line to its last."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    exec("\n".join(blocks), {"__name__": page})  # noqa: S102 (our own page)


@pytest.mark.parametrize("script", [".ci/run", "examples/check.sh"])
def test_bash_reads_what_ci_runs(script: str) -> None:
    """The script parses."""
    subprocess.run(["bash", "-n", ROOT / script], check=True)
