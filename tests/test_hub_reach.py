"""A hub that cannot be reached is given up on at once."""

import socket

import pytest
from huggingface_hub import constants

from bench import hub


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch):
    """The library believes that it is online, as without HF_HUB_OFFLINE, and nothing is remembered."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    hub.without_hub_be_offline.cache_clear()
    yield
    hub.without_hub_be_offline.cache_clear()


def test_where_no_connection_is_made_the_cache_alone_is_read(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        hub.without_hub_be_offline()

    assert constants.HF_HUB_OFFLINE is True


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        hub.without_hub_be_offline()

    assert constants.HF_HUB_OFFLINE is False


def test_behind_a_proxy_nothing_is_decided(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    hub.without_hub_be_offline()

    assert constants.HF_HUB_OFFLINE is False
