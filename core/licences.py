"""Names of licences, as SPDX writes them (https://spdx.org/licenses)."""

from __future__ import annotations

UNKNOWN = "NOASSERTION"
"""SPDX's name for a licence that nobody has stated."""

HUBS = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc0-1.0": "CC0-1.0",
    "gpl-3.0": "GPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
}
"""How model hubs write them."""


def spdx(name: object) -> str:
    """A model card's licence under its SPDX name; one that is not known here stays as it is, none is `UNKNOWN`."""
    if not isinstance(name, str) or not name.strip():
        return UNKNOWN
    return HUBS.get(name.strip().lower(), name.strip())
