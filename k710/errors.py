"""Everything that k710 raises on purpose, worded so that it can be shown to a user as it is.

K710Error
├── SourceError    an upstream file: missing, wrong hash, wrong header, bad row (file:line)
├── LabelError     a class name that is in no list, or two label orders mixed
├── SchemaError    a table is not what this version writes
├── StageError     an input isn't built, the disk is full, another process is at work
├── MediaError     a video that can't be decoded
├── RecipeError    an unknown key or a wrong type in a recipe
├── WeightsError   a checkpoint that does not fit: two-sided diff of names and shapes
├── TrainingError  the loss is no number any more: at which step, over which clips
└── MissingExtra   an optional dependency that is not installed

A message says what was found (with its value), why that is wrong, and what to do next. Values that
come from files go through `shown`. Catch `K710Error` to catch them all; anything else is a bug.
"""

import re

__all__ = [
    "K710Error",
    "LabelError",
    "MediaError",
    "MissingExtra",
    "RecipeError",
    "SchemaError",
    "SourceError",
    "StageError",
    "TrainingError",
    "WeightsError",
    "printable",
    "printable_lines",
    "shown",
    "without_secrets",
]

# pathlib makes http:/ of http://.
_MARKS = re.compile(r"(://|(?:(?<=\bhttp)|(?<=\bhttps)|(?<=\bftp)|(?<=\bs3)|(?<=\bgs)):/)", re.I)
_NO_PORT = re.compile(r"[^/?#@:]*:(?!\d{1,5}(?:[/?#'\"]|$))", re.ASCII)
_URLLIB3 = re.compile(r"(\burl: /[^\s?#]*[?#])\S+")
_CLOSERS = ")]>'\",;"  # of the sentence that a URL stands in


class K710Error(Exception):
    """Base of all errors below: catch it to show its text and stop."""

    def __str__(self) -> str:
        """The text, `without_secrets`: it may quote what a library said of a URL."""
        return without_secrets(super().__str__())


class SourceError(K710Error):
    """An upstream file or archive can't be used. The text names the file and the line, if any."""


class LabelError(K710Error):
    """A class name is in no list (the nearest are given), or two label orders were mixed."""


class SchemaError(K710Error):
    """A table lacks a column or has another type. The text names column and remedy."""


class StageError(K710Error):
    """A stage can't run now: input not built, disk full, or work directory in use."""


class MediaError(K710Error):
    """A video file can't be decoded. The text says why."""


class RecipeError(K710Error):
    """A recipe has an unknown key (the nearest is given) or a value of the wrong type."""


class WeightsError(K710Error):
    """A checkpoint doesn't fit the model. The text lists names and shapes of both sides."""


class TrainingError(K710Error):
    """Training can't go on: the loss is no number. The text names step and clips."""


class MissingExtra(K710Error):
    """An optional dependency is missing. The text is the command that installs it."""


def without_secrets(text: str) -> str:
    """`text` with every URL in it cut to what may be shown and stored: no user part, no query.

    `http://name:password@host/a?token=b` becomes `http://...@host/a?...`; so does a fragment.
    """
    if ":/" in text:
        text = re.sub(r"(://)[^/@\s]+:[^/@\n]*@", r"\1...@", text)  # a password may have a blank
        text = re.sub(r"\S+", lambda word: _without_secrets(word[0]), text)
    return _URLLIB3.sub(r"\1...", text)


def _without_secrets(word: str) -> str:
    before, *after = _MARKS.split(word)
    if not after:
        return word
    # Marks and what follows them, in turn: there may be a URL in a URL.
    after[1::2] = map(_without_user, after[1::2])
    address, mark, query = (*re.split("([?#])", "".join(after), maxsplit=1), "", "")[:3]
    closers = query[len(query.rstrip(_CLOSERS)) :]
    return f"{before}{address}{mark}{'...' if query else ''}{closers}"


def _without_user(text: str) -> str:
    host = re.split("[/?#]", text, maxsplit=1)[0]
    if "@" in host:
        return f"...@{host.rpartition('@')[2]}{text[len(host) :]}"
    # A password may have been typed with a / ? or # in it: what follows the : is no port then.
    if "@" in text and _NO_PORT.match(text):
        before, _, after = text.rpartition("@")
        return "..." if re.search("[?#]", before) else f"...@{after}"
    return text


def shown(text: object, *, limit: int = 80) -> str:
    """`text` in quotes on one line, safe to print: `without_secrets`, escaped, cut to `limit`."""
    try:
        whole = without_secrets(str(text))
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        whole = f"<{type(text).__name__}>"
    cut = whole if len(whole) <= limit else whole[: limit - 3] + "..."
    # repr() escapes what a terminal would act on (ESC, CR, bidi controls).
    return repr(cut)


def printable(text: str) -> str:
    """`text` `without_secrets`, every character escaped that a terminal would act on."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in without_secrets(text))


def printable_lines(text: str) -> str:
    """`text` with its lines `printable`; `\\n` alone breaks them."""
    return "\n".join(printable(line) for line in text.split("\n"))
