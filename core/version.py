"""taoke's own version."""

from __future__ import annotations


def version() -> str:
    """The installed version; `0+source` where taoke runs from a checkout that is not installed."""
    from importlib import metadata

    try:
        return metadata.version("taoke")
    except metadata.PackageNotFoundError:
        return "0+source"
