"""A dataset card for the Hugging Face hub: what the tables hold, and how they are made again.

It tells of the tables and their sidecars alone, never of the time, the machine or its paths: the
same tables give the same bytes.

Not covered: shards. The videos are not ours to pass on, so no config names them.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from k710.errors import StageError
from k710.files import replacing, sha256_of, word_os_errors
from k710.labels.orders import DATASETS, class_names, dataset_rows, labels_sha256
from k710.manifest.read import open_tables
from k710.report.front_matter import front_matter
from k710.report.markdown import markdown_table
from k710.report.rebuild import is_of_other_manifest, rebuild_section
from k710.report.status import ViewStatus, WorkStatus, read_status
from k710.sources.outcomes import done_shards
from k710.tables.connection import run
from k710.tables.schemas import DROPPED, MANIFEST, SOURCES, TABLES, Table
from k710.tables.sidecar import Sidecar, read_sidecar

__all__ = ["PUBLISHED", "Card", "card_text", "write_card"]

PUBLISHED = ("manifest", "annotations", "dropped", "leakage", "index")
"""The tables that may lie beside the card on the hub. The others tell of paths on this machine."""
_MARK = re.compile(r"^<!-- k710 card (\w+): .* -->\n", re.M)
_GRAIN = {
    "manifest": "view and clip",
    "annotations": "row of an upstream list",
    "dropped": "row that its k710 view lacks, with the reason",
    "leakage": "pair of lists: how many ids and clips they share",
    "index": "clip that is stored: its shard, offset, bytes, hash and frames",
}
_LICENCE = """\
The annotations are Google DeepMind's, published under
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), and so are these tables. Changed in them:
the lists are merged, class names brought to one spelling, and rows left out as said above.

The videos belong to those who uploaded them, and **are not redistributable**. They are not in this
repository, and shards made of them must not be published. `sources.parquet` and `outcomes/` stay
at home too: they tell of paths.

Kinetics: [K400](https://arxiv.org/abs/1705.06950), [K600](https://arxiv.org/abs/1808.01340),
[K700](https://arxiv.org/abs/1907.06987), [K700-2020](https://arxiv.org/abs/2010.10864). The merge
to 710 classes is that of [UniFormerV2](https://arxiv.org/abs/2211.09552).
"""


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was written."""

    path: str
    tables: tuple[str, ...]  # files that belong beside it


@dataclass(frozen=True, slots=True)
class _Told:
    """What a card tells of."""

    work: Path
    repo_id: str
    status: WorkStatus
    sidecars: Mapping[str, Sidecar]  # of the published tables that there are
    looked: bool  # for copies
    shards: Sequence[Sidecar]  # of their outcomes
    of_other_manifest: bool  # the shards
    dropped: Sequence[tuple[str, str, int]]  # split, reason, rows


def write_card(
    work: str | os.PathLike[str] = "work",
    *,
    output: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    force: bool = False,
) -> Card:
    """Write the card of a work directory to its README.md, or to `output`; returns where it lies.

    `repo_id`, like ORG/NAME, is where the tables will be on the hub. StageError where the manifest
    isn't built, or a file is in the way that k710 did not write or that was changed since, which
    `force` replaces.
    """
    text, tables = card_text(work, repo_id=repo_id)
    path = Path(output) if output is not None else Path(work) / "README.md"
    with word_os_errors(path):
        if path.is_dir():
            raise StageError(f"{path} is a folder.\nName a file with --output.")
        if not force and path.exists():
            _refuse_to_replace(path)
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return Card(str(path), tables)


def card_text(
    work: str | os.PathLike[str] = "work", *, repo_id: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """The text of the card, and the names of the files that belong beside it. It writes nothing.

    ValueError where `repo_id` is none; StageError where the manifest isn't built.
    """
    told = _told(Path(work), _checked(repo_id))
    body = "".join(
        [
            front_matter(told.status.clips, told.sidecars),
            _summary(told),
            _views(told),
            _rules(told),
            _labels(),
            _shards(told),
            f"## Licence\n\n{_LICENCE}\n",
            rebuild_section(
                told.work,
                told.sidecars,
                with_shards=bool(told.shards) and not told.of_other_manifest,
            ),
        ]
    )
    mark = f"<!-- k710 card {_hash(body)}: another run replaces this file if it is as written -->\n"
    return body + mark, tuple(f"{name}.parquet" for name in told.sidecars)


def _refuse_to_replace(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", errors="replace")
    mark = _MARK.search(text)
    if mark is None:
        what = "was not written by k710"
    elif _hash(_MARK.sub("", text)) != mark[1]:
        what = "was changed since k710 wrote it"
    else:
        return
    raise StageError(
        f"{path} {what}: it is left as it is.\n"
        "Replace it with --force, or choose another file with --output."
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(repo_id: str | None) -> str:
    """The name on the hub, by the hub's own rules, or a placeholder."""
    if repo_id is None:
        return "ORG/NAME"
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
    if (
        not re.fullmatch(f"{part}/{part}", repo_id)
        or re.search(r"--|\.\.", repo_id)
        or repo_id.endswith(".git")
    ):
        raise ValueError(
            f"{repo_id!r} is no name of a repository on the hub: write it like ORG/NAME, with "
            "letters, digits, - _ and ."
        )
    return repo_id


def _told(work: Path, repo_id: str) -> _Told:
    with word_os_errors(work), duckdb.connect() as con:
        open_tables(con, work, MANIFEST, DROPPED)
        dropped = run(
            con,
            "select split, reason, count(*) from dropped group by split, reason "
            "order by split desc, reason",
        )
        done = done_shards(work)
        found = {name: _sidecar(work, TABLES[name]) for name in PUBLISHED}
        manifest, annotations = found["manifest"], found["annotations"]
        leakage, index = found["leakage"], found["index"]
        assert manifest is not None and annotations is not None  # they were opened
        if leakage and leakage.inputs.get("annotations") != annotations.sha256:
            found["leakage"] = None  # of a build that was stopped half-way
        is_of_other = is_of_other_manifest(work, manifest)
        if index and (is_of_other or index.notes.get("shards") != sorted(done)):
            found["index"] = None  # of another manifest, or of before the last shards
        return _Told(
            work=work,
            repo_id=repo_id,
            status=read_status(work=work),
            sidecars={name: sidecar for name, sidecar in found.items() if sidecar is not None},
            looked=SOURCES.path(work).is_file(),
            shards=list(done.values()),
            of_other_manifest=is_of_other,
            dropped=dropped,
        )


def _sidecar(work: Path, table: Table) -> Sidecar | None:
    """The sidecar of a table that is there; StageError where it tells of other bytes."""
    path = table.path(work)
    sidecar = read_sidecar(path)
    if sidecar is None or not path.is_file():
        return None
    if sha256_of(path) != sidecar.sha256:
        raise StageError(
            f"{path} is not as it was written.\n"
            f"Remove it, and build it again: {table.command} --work {work}"
        )
    return sidecar


# --- body


def _summary(told: _Told) -> str:
    views = [view for view in told.status.views if view.clips]
    sizes = ", ".join(f"{view.clips:,} in `{view.view}`" for view in views[:2])
    return f"""\
# Kinetics-710

The annotation lists of Kinetics-400, 600 and 700 as one manifest of 710 classes, with a reason for
every row that was left out: {told.status.clips:,} clips, {sizes}.
There are no videos here: see Licence.

```python
from datasets import load_dataset

manifest = load_dataset("{told.repo_id}", "manifest", split="rows")
clips = manifest.filter(lambda row: row["view"] == "{views[0].view if views else "k710/train"}")
```

{markdown_table(("table", "one row for each", "rows"), _table_rows(told))}
A clip is `(youtube_id, time_start, time_end)`, in seconds. A view is what one run reads: choose the
rows of one `view`, not the whole table.

"""


def _table_rows(told: _Told) -> Iterator[tuple[str, ...]]:
    for name, sidecar in told.sidecars.items():
        yield f"`{name}.parquet`", _GRAIN[name], f"{sidecar.rows:,}"


def _views(told: _Told) -> str:
    views = told.status.views
    if told.shards:
        note = (
            "Clips disappear from YouTube. The counts are of the copies that those who made this "
            "card had: give the missing share beside every result.\n"
        )
    elif told.looked:
        note = "No shards were made yet.\n"
    else:
        counts = [(f"`{view.view}`", f"{view.clips:,}") for view in views]
        note = "Nobody has looked yet how many of them can be had.\n"
        return f"## Views\n\n{markdown_table(('view', 'clips'), counts)}\n{note}\n"
    return f"## Views\n\n{_fates(views)}\n{note}\n"


def _fates(views: Sequence[ViewStatus]) -> str:
    rows = [
        (
            f"`{view.view}`",
            f"{view.clips:,}",
            f"{view.stored:,}",
            f"{(view.pending + view.final) / view.clips if view.clips else 0:.2%}",
            ", ".join(
                f"{count.status if count.state != 'to_shard' else 'not in a shard yet'} "
                f"{count.clips:,} ({count.share:.2%})"
                for count in view.statuses
                if count.state != "stored"
            ),
        )
        for view in views
    ]
    return markdown_table(("view", "clips", "stored", "missing share", "why"), rows)


def _rules(told: _Told) -> str:
    manifest = told.sidecars["manifest"]
    rules, not_protected = manifest.params, manifest.notes["not_protected"]
    held_out = (
        f"A train row is left out when its YouTube id is in a {' or '.join(rules['protect'])} "
        "list of any\n  of the three datasets, whatever the window there."
        if rules["protect"]
        else "**Nothing**: train videos may be in val and test lists. Not for training."
    )
    missing = (
        "\n  These lists were not there, so that train videos in them were not found: "
        f"{', '.join(f'`{name}`' for name in not_protected)}."
        if not_protected
        else ""
    )
    kept = "YouTube id" if rules["dedup"] == "id" else "YouTube id and window"
    rows = [(f"`k710/{split}`", reason, f"{num:,}") for split, reason, num in told.dropped]
    dropped = markdown_table(("view", "left out", "rows"), rows) + "\n" if rows else ""
    return f"""\
## How it was merged

- Held out (`--protect {",".join(rules["protect"]) or "none"}`): {held_out}{missing}
- Deduplicated (`--dedup {rules["dedup"]}`): one row for each {kept} stays in `k710/train`
  and in `k710/val`, by dataset ({", ".join(rules["prefer"])}), then time_start, time_end, label
  name.
- The views of one dataset, like `k400/train`, lose exact duplicates only.

{dropped}"""


def _labels() -> str:
    sizes = ", ".join(f"{len(dataset_rows(name))} are in {name.upper()}" for name in DATASETS)
    names = "\n".join(f"{row} {name}" for row, name in enumerate(class_names()))
    return f"""\
## Labels

`label` is a row of the 710-class head in the order of the `opengvlab` family: UniFormerV2, UMT,
InternVideo2, VideoMAEv2. Of its rows {sizes}. It is not the order of the
`alphabetical` family (MMAction2, torchvision, DeepMind), and not a dataset's own class index:
`k710 labels` prints the maps. Read in the wrong order, a model scores at chance.

SHA-256 of all orders and spellings, as k710 has them: `{labels_sha256()}`.

<details><summary>The 710 classes</summary>

```
{names}
```

</details>

"""


def _shards(told: _Told) -> str:
    if not told.shards:
        return "## Shards\n\nNone were made yet.\n\n"
    made_with = {
        json.dumps([shard.params["encoding"], shard.params["versions"]], sort_keys=True)
        for shard in told.shards
    }
    lines = []
    for encoding, versions in map(json.loads, sorted(made_with)):
        fps = encoding["fps"] or "each source's own"
        lines.append(
            f"- profile `{encoding['profile']}`, short side at most {encoding['short_side']} px, "
            f"frames/s: {fps}, {'with' if encoding['audio'] else 'no'} sound; by "
            + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        )
    clips = _counted(sum(shard.notes["num_stored"] for shard in told.shards), "clip")
    shards = _counted(len(told.shards), "shard")
    other = (
        "They were made of another manifest than this one: `index.parquet` is not here, and no\n"
        "command below makes them.\n\n"
        if told.of_other_manifest
        else ""
    )
    return f"""\
## Shards

Not in this repository. Those who have the videos can make them: {shards} with
{clips}, {told.status.shard_bytes / 1e9:,.3f} GB, each clip once whatever the number of its
views. A shard is a plain tar, `shards/000000.tar`, that `webdataset` reads: `<clip_id>.mp4` and
`<clip_id>.json` in turn, in a seeded random order. Clips are cut to their windows and encoded as

{chr(10).join(lines)}

{other}"""


def _counted(num: int, what: str) -> str:
    return f"{num:,} {what}{'' if num == 1 else 's'}"
