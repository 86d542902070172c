"""The index of webdataset's wids: random access to the samples of whole shards.

It lists shards, and a shard holds clips of many views. So a table goes with it that says where
among all samples the clips of the view are, and gives the class index of each in the order of the
family: the JSON in the shards has K710 rows.
"""

import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse, urlsplit

import duckdb

from k710.errors import StageError, shown
from k710.export.request import ExportRequest
from k710.sources.outcomes import shard_name
from k710.tables.connection import run
from k710.tables.schemas import read_sql, table_path
from k710.tables.sidecar import read_sidecar

__all__ = ["WidsIndex", "open_address", "places_path", "refuse_address", "write_wids_index"]

_SHARDS = """
select shard, count(*) from index semi join (from exported where reason is null) using (shard)
group by shard order by shard
"""


@dataclass(frozen=True, slots=True)
class WidsIndex:
    """What an index lists."""

    shards: int
    samples: int  # the clips of other views in these shards too


def open_address(address: str) -> str:
    """The address of a folder of shards, without the user part, which is no other reader's.

    StageError where no shard lies below such an address, or it can't be handed to a program.
    """
    try:
        parts = urlsplit(address)
        is_good = bool(parts.netloc) and not (parts.query or parts.fragment)
        _ = parts.port
    except ValueError:  # such as http://[::1/
        is_good = False
    # wids puts it into a command, in quotes.
    if not is_good or not re.fullmatch(r"[A-Za-z0-9._~:/@%+,=!$&()*\[\]-]+", address):
        raise StageError(
            f"{shown(address)} can't be used: shards lie below an address without ? # or spaces.\n"
            "Write other characters of it with % escapes, and leave a token to who reads."
        )
    scheme, mark, rest = address.partition("://")
    host = rest.partition("/")[0]
    return f"{scheme}{mark}{host.rpartition('@')[2]}{rest[len(host) :]}"


def places_path(output: Path) -> Path:
    """Where the table goes: the place of each clip of the view, its name and class."""
    return output.with_name(f"{output.name}.clips.csv")


def write_wids_index(
    con: duckdb.DuckDBPyConnection, request: ExportRequest, index: Path, places: Path
) -> WidsIndex:
    """Write to `index` all shards that hold a clip of `exported`, to `places` where those are.

    `exported` and `index` must be tables on `con`. StageError where a shard is not there.
    """
    root = request.root
    shards = run(con, _SHARDS)
    listed = [
        {
            "url": f"{root.rstrip('/')}/{shard_name(shard)}.tar",
            "nsamples": num_samples,
            "filesize": _tar_bytes(request.work, shard),
        }
        for shard, num_samples in shards
    ]
    refuse_address(os.path.abspath(request.output))
    if "://" not in root:
        refuse_address(root)
        _refuse_missing(listed)
    rows = run(con, read_sql("k710/export/export_places.sql"))
    with places.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("place", "clip_id", "class_index", "class_name"))
        writer.writerows(rows)
    description = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": request.view,
        "info": f"Its clips, places and classes are in {places_path(request.output).name}.",
        "shardlist": listed,
    }
    index.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return WidsIndex(len(shards), sum(num_samples for _, num_samples in shards))


def _tar_bytes(work: Path, shard: int) -> int:
    path = table_path(work, f"outcomes/{shard_name(shard)}")
    sidecar = read_sidecar(path)
    size = None if sidecar is None else sidecar.notes.get("tar_bytes")
    if not isinstance(size, int):
        raise StageError(
            f"There is no finished {path}.\n"
            f"Finish the shard: k710 shard --views VIEWS --work {work}"
        )
    return size


def refuse_address(path: str) -> None:
    """StageError where webdataset, which takes paths for URLs, would use a part of it alone."""
    try:
        is_kept = urlparse(path).path == path
    except ValueError:  # //[...
        is_kept = False
    if not is_kept:
        raise StageError(
            f"{shown(path, limit=300)} can't be used: webdataset takes paths for addresses, which "
            "end at a #, ? or ;.\nChoose another --output, --root or --work."
        )


def _refuse_missing(listed: list[dict[str, Any]]) -> None:
    for shard in listed:
        path = shard["url"]
        size = os.path.getsize(path) if os.path.isfile(path) else None
        if size != shard["filesize"]:
            found = "is not there" if size is None else f"has {size:,} bytes"
            raise StageError(
                f"{path} {found}, and the shard was written with {shard['filesize']:,} bytes.\n"
                "Name the folder of the shards: --root DIR"
            )
