"""What has come of the clips of each view, and why those that aren't stored are not.

Every clip is one of four, by the rules of states.sql:

    stored      in a finished shard
    to_shard    it has a copy that no shard was made of yet
    pending     it may still be had
    final       a definite no, or a bad copy, be it one with less than half of the window. Another
                copy may take its place.

Which status has which state is in k710/statuses.py.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.files import word_os_errors
from k710.sources.outcomes import done_shards, open_outcomes
from k710.sources.table import current_sources
from k710.statuses import STATES, State, Status, parse_status
from k710.tables.connection import connect, make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import MANIFEST, SOURCES, read_sql
from k710.tables.sidecar import read_sidecar
from k710.tables.views import require_views

__all__ = [
    "ClassStatus",
    "Message",
    "StatusCount",
    "ViewStatus",
    "WorkStatus",
    "read_status",
]

_MOST_MESSAGES = 3  # of each status
_MEMORY = "2GB"


@dataclass(frozen=True, slots=True)
class Message:
    """What was said of clips with one status."""

    state: State
    status: Status
    text: str
    clips: int


@dataclass(frozen=True, slots=True)
class StatusCount:
    """The clips of one view with one status."""

    state: State
    status: Status
    clips: int
    with_copy: int  # of these clips
    share: float  # of the view's clips
    messages: tuple[Message, ...]  # the most frequent first; none of what is stored or to shard


@dataclass(frozen=True, slots=True)
class ClassStatus:
    """The clips of one class in one view."""

    label: int  # K710 row
    label_name: str
    clips: int
    stored: int
    to_shard: int
    pending: int
    final: int
    share_stored: float  # of the clips
    share_final: float


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """The clips of one view: clips = stored + to_shard + pending + final."""

    view: str
    clips: int
    stored: int
    to_shard: int
    pending: int
    final: int
    statuses: tuple[StatusCount, ...]  # by state in the order above, then the most frequent first
    classes: tuple[ClassStatus, ...]  # smallest share stored first; () without labels


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """What has come of the views of a work directory; `asdict` of it is what `--json` prints."""

    views: tuple[ViewStatus, ...]
    clips: int  # distinct ones of these views
    stored: int  # of them
    messages: tuple[Message, ...]  # of all these views, each clip counted once
    shards: int  # done, whatever the views
    shard_bytes: int  # of their tars
    work: str


def read_status(
    views: Sequence[str] | None = None, *, work: str | os.PathLike[str] = "work"
) -> WorkStatus:
    """What has come of the clips of `views`, in that order; of all views, k710 first, without.

    It writes nothing to `work`, and may be called while others write. Full-size lists (843,000
    clips) take 4 to 7 s on 2 cores, and 0.6 GB. StageError where there is no manifest, or no such
    view.
    """
    if isinstance(views, str) or (views is not None and not views):
        raise ValueError("views must be a list of names, with one at least, or None")
    work = Path(work)
    with (
        word_os_errors(work),
        tempfile.TemporaryDirectory(prefix="k710-") as spill,  # `work` is others' to spill into
        connect(Path(spill), memory_limit=_MEMORY) as con,
    ):
        open_table(con, work, MANIFEST)
        chosen = _views(con, work, views)
        path = SOURCES.path(work)
        if path.is_file() or read_sidecar(path) is not None:
            open_table(con, work, SOURCES, name="on_disk")  # or say what is wrong with it
        current_sources(con, work)  # the ledger of a download under way included
        done = done_shards(work)
        open_outcomes(con, work, sorted(done))
        make_table(con, "states", read_sql("k710/report/states.sql"), {"views": chosen})
        ((clips, stored),) = run(
            con, "select count(*), count(*) filter (state = 'stored') from states"
        )
        messages = _messages(con, chosen)
        return WorkStatus(
            views=_view_statuses(con, chosen, messages),
            clips=clips,
            stored=stored,
            messages=tuple(messages[None]),
            shards=len(done),
            shard_bytes=sum(shard.notes["tar_bytes"] or 0 for shard in done.values()),
            work=str(work),
        )


def _views(con: duckdb.DuckDBPyConnection, work: Path, views: Sequence[str] | None) -> list[str]:
    """The views asked for, each once; StageError where the manifest has one of them not."""
    there = require_views(con, work, views or (), may_be_empty=True)
    if views is None:
        return sorted(there, key=lambda view: not view.startswith("k710/"))
    return list(dict.fromkeys(views))


def _messages(
    con: duckdb.DuckDBPyConnection, views: Sequence[str]
) -> dict[str | None, list[Message]]:
    """view -> its most frequent messages by status; None -> those of all views together."""
    found: dict[str | None, list[Message]] = defaultdict(list)
    values = {"views": list(views), "most": _MOST_MESSAGES}
    for view, *message in run(con, read_sql("k710/report/messages.sql"), values):
        state, status, text, clips = message
        found[view].append(Message(state, parse_status(status), text, clips))
    return found


def _view_statuses(
    con: duckdb.DuckDBPyConnection, views: Sequence[str], messages: dict[str | None, list[Message]]
) -> tuple[ViewStatus, ...]:
    values = {"views": list(views)}
    counts: dict[str, list[tuple[Any, ...]]] = {view: [] for view in views}
    for view, *count in run(con, read_sql("k710/report/view_states.sql"), values):
        counts[view].append(tuple(count))
    classes: dict[str, list[ClassStatus]] = {view: [] for view in views}
    for view, *of_class in run(con, read_sql("k710/report/class_states.sql"), values):
        label, name, clips, stored, to_shard, pending, final = of_class
        shares = round(stored / clips, 6), round(final / clips, 6)
        classes[view].append(
            ClassStatus(label, name, clips, stored, to_shard, pending, final, *shares)
        )
    return tuple(_view_status(view, counts[view], classes[view], messages[view]) for view in views)


def _view_status(
    view: str,
    counts: Sequence[tuple[Any, ...]],
    classes: Sequence[ClassStatus],
    messages: Sequence[Message],
) -> ViewStatus:
    states = dict.fromkeys(STATES, 0)
    for state, _, clips, _ in counts:
        states[state] += clips
    in_all = sum(states.values())
    statuses = [
        StatusCount(
            state=state,
            status=parse_status(status),
            clips=clips,
            with_copy=with_copy,
            share=round(clips / in_all, 6),
            messages=tuple(m for m in messages if (m.state, m.status) == (state, status)),
        )
        for state, status, clips, with_copy in counts
    ]
    order = list(states)
    statuses.sort(key=lambda count: (order.index(count.state), -count.clips, count.status))
    return ViewStatus(
        view=view,
        clips=in_all,
        **states,
        statuses=tuple(statuses),
        classes=tuple(classes),
    )
