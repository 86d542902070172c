"""Fixtures of the tests that fetch; a module has them by `pytest_plugins = ["fetch_fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import write_sources
from loopback import Answer, Loopback

from k710 import http_download


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries, and no proxy."""
    monkeypatch.setattr(http_download, "PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(quick: None) -> Iterator[Loopback]:
    """A running server that answers 404 until it is told more."""
    with Loopback() as server:
        yield server


@pytest.fixture
def sources(tmp_path: Path, server: Loopback) -> Path:
    """A sources TOML with one edition, k400, from /k400.tar.gz of `server`."""
    return write_sources(tmp_path / "sources.toml", server.tell("/k400.tar.gz", Answer(status=404)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder to fetch into, not there yet."""
    return tmp_path / "annotations"
