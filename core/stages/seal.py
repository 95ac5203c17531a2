"""Seal: the adapted model as a shell, kept only if a fresh process finds in it the model that was judged."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.context import Context
from core.contract import ADAPTED, REPORT
from core.evidence.weigh import Evidence
from core.shell.parity import check
from core.shell.write import write
from core.stages.fine_tune import Tuned


def seal(context: Context, tuned: Tuned, evidence: Evidence, folder: Path) -> Path:
    """Write the shell beside its place, check it, then move it there. Raises `ParityError`, and leaves no
    shell then."""
    unproven = folder / "shell.unproven"
    unproven.mkdir()
    try:
        write(unproven, context, tuned, evidence)
        compared = check(unproven, context, evidence.predictions[ADAPTED, REPORT])
        shell = unproven.rename(folder / "shell")
    except BaseException:
        shutil.rmtree(unproven, ignore_errors=True)
        raise
    context.events.emit("sealed", compared=compared)
    return shell
