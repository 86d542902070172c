"""Fixtures of tests that fetch, by `pytest_plugins = ["support.edition_fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.annotations import download_archive as http_download
from support.loopback import Answer, Loopback
from support.small_editions import write_sources


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
