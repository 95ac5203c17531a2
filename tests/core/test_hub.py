"""Working without the hub."""

from __future__ import annotations

import os

import pytest

from core.hub import offline_where_unreachable


@pytest.mark.parametrize(
    ("endpoint", "proxy", "offline"),
    [
        ("https://hub.invalid", "", "1"),  # a name that is promised never to resolve (RFC 6761)
        ("https://hub.invalid", "http://proxy.invalid:3128", None),
        ("https://127.0.0.1", "", None),
    ],
)
def test_hub_is_switched_off_where_its_host_has_no_address(monkeypatch, endpoint, proxy, offline):
    """Unless a proxy may know it."""
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    if proxy:
        monkeypatch.setenv("https_proxy", proxy)
    offline_where_unreachable()
    assert os.environ.get("HF_HUB_OFFLINE") == offline
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
