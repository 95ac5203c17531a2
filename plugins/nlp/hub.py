"""Models' folders: named by a path, or found in the hub's cache, or fetched into it. Imports no torch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.data.stored import readable
from core.errors import BaseError
from core.hub import offline_where_unreachable

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md", "1_Pooling/*")
"""The files of a hub's model that are fetched."""

PICKLED = "pytorch_model*.bin"
"""Also fetched, where there are no safetensors."""


def located(name: str, revision: str | None) -> Path:
    """The folder with a model's files: `name` itself, or its copy in the hub's cache, fetched where it is not there.
    Raises `BaseError`."""
    path = Path(name).expanduser()
    with readable(path, BaseError):
        if path.is_dir():
            return path
        there, file = path.exists(), path.is_file()
    if there or not _may_be_on_the_hub(name):
        raise BaseError(
            f"{name!r} is no folder" + (", it is a file" if file else " here"),
            "give the folder that has the model's config.json, or a model's name on the hub, as owner/model",
        )
    if found := cached(name, revision):
        return found
    import huggingface_hub as hub
    from huggingface_hub import errors

    what = f"{name!r} is no folder here, not in the hub's cache"
    at = f" --revision {revision}" if revision else ""
    offline = (
        f"where there is a network: `hf download {name}{at} --local-dir FOLDER`, then base.name=FOLDER; or copy its"
        f" cache, {hub.constants.HF_HUB_CACHE}, and name it with HF_HOME"
    )
    forbidden = hub.constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1"
    if not forbidden:
        offline_where_unreachable()
    if forbidden or os.environ.get("HF_HUB_OFFLINE"):  # the hub's own attempts take half a minute
        if found := cached(name, revision, whole=False):
            return found
        hub_s = hub.constants.ENDPOINT
        why = f"HF_HUB_OFFLINE keeps from asking {hub_s}" if forbidden else f"{hub_s} does not answer"
        raise BaseError(f"{what}, and {why}", offline)
    try:
        with quiet():
            info = hub.HfApi().model_info(name, revision=revision, timeout=10)
            files = [file.rfilename for file in info.siblings or ()]
            weights = () if any(file.endswith(".safetensors") for file in files) else (PICKLED,)
            return Path(hub.snapshot_download(name, revision=revision, allow_patterns=[*WANTED, *weights]))
    except errors.RevisionNotFoundError as error:
        raise BaseError(f"{name!r} has no revision {revision!r} on the hub", "check base.revision") from error
    except errors.GatedRepoError as error:
        raise BaseError(
            f"{name!r} is given out on the hub to those alone who have accepted its terms",
            "accept them on its page, then `hf auth login`",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BaseError(
            f"{what}, and {hub.constants.ENDPOINT} knows no model of that name (or it is private)",
            "check the spelling, owner/model; for a private one `hf auth login`",
        ) from error
    except Exception as error:  # every kind of broken network has its own
        if found := cached(name, revision, whole=False):
            return found
        raise BaseError(f"{what}, and {hub.constants.ENDPOINT} does not answer", offline) from error


def cached(name: str, revision: str | None = None, *, whole: bool = True) -> Path | None:
    """The folder of a hub's model in the cache, with its configuration and weights; None where it is not there.

    The cache knows which files a model has, and that some are not there. `whole`: all that would be fetched must be;
    otherwise what another program fetched will do."""
    if not _may_be_on_the_hub(name):
        return None
    import huggingface_hub as hub
    from huggingface_hub import errors

    for weights in ("*.safetensors", PICKLED):
        try:
            with quiet():
                folder = Path(
                    hub.snapshot_download(
                        name, revision=revision, local_files_only=True, allow_patterns=[*WANTED, weights]
                    )
                )
        except errors.LocalEntryNotFoundError as error:
            partial = getattr(error, "snapshot_path", None)  # there, with files missing
            if whole or partial is None:
                return None
            folder = Path(partial)
        except (errors.HFValidationError, OSError):
            return None
        if (folder / "config.json").is_file() and any(folder.glob(weights)):
            return folder
    return None


def _may_be_on_the_hub(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)) and not name.startswith((".", "~"))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the hub's progress bars and warnings: what matters is said here."""
    from huggingface_hub import utils

    log = logging.getLogger("huggingface_hub")
    level = log.level
    utils.disable_progress_bars()  # type: ignore[attr-defined]
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
