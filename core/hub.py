"""The Hugging Face hub, where it cannot be reached: asked for nothing, instead of five times with a pause between."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlparse


def offline_where_unreachable() -> None:
    """Call before `huggingface_hub` is imported, or what imports it. Where the hub's host has no address and no
    proxy is set, the hub's own switch for working without it (`HF_HUB_OFFLINE`) is set for this process."""
    if os.environ.get("HF_HUB_OFFLINE") or any(os.environ.get(name) for name in _PROXIES):
        return
    host = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
