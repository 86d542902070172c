"""The editions that can be fetched, as a sources TOML tells of them, and where their files go.

Not covered: which of them are fetched when nobody says; that is `fetch.EDITIONS_DEFAULT`.
"""

import difflib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import SourceError, printable, shown
from k710.files import write_json

__all__ = ["BadArchive", "Edition", "read_sources"]

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FIELDS = {
    "url": (r"https?://[^\s/?#@]+/[!-~]*", "an http:// or https:// address"),
    "folder": (_NAME, "a plain folder name"),
    "sha256": ("[0-9a-fA-F]{64}", "64 hex digits"),
}
_OPTIONAL = ("sha256",)


class BadArchive(Exception):
    """Why an archive isn't taken, worded to go on after its URL, as `Edition.refused` has it."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One table of a sources TOML, and where its files go."""

    name: str
    url: str
    target: Path  # the folder of its lists
    sha256: str | None = None  # of the archive, in lower case; None takes any

    def accepts(self, sha256: str) -> bool:
        """Whether an archive with this SHA-256 may be the edition's."""
        return self.sha256 is None or self.sha256 == sha256

    def beside(self, ending: str) -> Path:
        """Where a file or folder lies that is at work for this edition only."""
        return self.target.parent / ".downloads" / (self.name + ending)

    @property
    def part(self) -> Path:
        """The archive, or as much of it as has come."""
        return self.beside(".tar.gz.part")

    def remember(self, validator: str) -> None:
        """Note what `part` is a part of, so that `kept` can tell. Without a validator it can't."""
        write_json(self._origin(), {"url": self.url, "validator": validator})

    def kept(self) -> tuple[int, str]:
        """How many bytes an earlier try left, and the validator to go on from there with.

        0 and "" where there are none, or where nothing vouches for them.
        """
        try:
            told = json.loads(self._origin().read_bytes())
            if told["url"] != self.url or not told["validator"]:
                return 0, ""
            return self.part.stat().st_size, str(told["validator"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0, ""

    def forget(self) -> None:
        """Remove the download: first what vouches for the bytes, then the bytes."""
        self._origin().unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def refused(self, why: str) -> SourceError:
        """The error that says why the edition can't come from its URL, and what to do instead."""
        return SourceError(
            f"{self.url} {why}.\nName another mirror with --sources FILE, or put the lists into "
            f"{self.target} by hand and leave {self.name} out."
        )

    def _origin(self) -> Path:
        return self.beside(".tar.gz.part.json")


def read_sources(path: Path, root: Path) -> dict[str, Edition]:
    """The editions by name that the TOML at `path` tells of, their folders below `root`.

    SourceError where it can't be read, or isn't of the form of manifests/sources.toml.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = printable(getattr(error, "strerror", None) or str(error))
        raise _bad_sources(path, f"no TOML that can be read: {why}") from error
    editions: dict[str, Edition] = {}
    for name, table in tables.items():
        edition = _read_edition(path, name, table, root)
        for other in editions.values():
            if other.target.name.casefold() == edition.target.name.casefold():
                raise _bad_sources(path, f"{name}.folder is the folder of {other.name} too")
        editions[name] = edition
    return editions


def _read_edition(path: Path, name: str, table: Any, root: Path) -> Edition:
    if not isinstance(table, dict) or not re.fullmatch(_NAME, name):
        raise _bad_sources(path, f"{shown(name)} is no table like [k400], with a url and a folder")
    for key in table:
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.0)[0]
            raise _bad_sources(
                path, f"{name} has an unknown key {shown(key)}; the nearest is {near}"
            )
    for key, (pattern, words) in _FIELDS.items():
        if key not in table:
            if key in _OPTIONAL:
                continue
            raise _bad_sources(path, f"{name}.{key} is missing, {words}")
        value = table[key]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _bad_sources(path, f"{name}.{key} is {shown(value)}, not {words}")
    sha256 = table["sha256"].lower() if "sha256" in table else None
    return Edition(name, table["url"], root / table["folder"], sha256)


def _bad_sources(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{path}: {what}.\nMend that, or leave --sources out: k710 has one of its own."
    )
