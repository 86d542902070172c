"""How a work directory is made again, as its sidecars tell of it: a section of its card."""

import json
from collections.abc import Mapping
from pathlib import Path

import duckdb

from k710.report.markdown import markdown_table, markdown_text
from k710.shards.plan import planned_encoding, seconds_per_shard
from k710.sources.outcomes import done_shards
from k710.tables.connection import run
from k710.tables.schemas import PLAN
from k710.tables.sidecar import Sidecar, parquet_pattern, read_sidecar
from k710.video.encode import Encoding, bytes_per_second

__all__ = ["is_of_other_manifest", "rebuild_section"]

_PLACES = """
select list(distinct shard), count(*) > count(distinct clip_id) from read_parquet($path)
"""


def is_of_other_manifest(work: Path, manifest: Sidecar) -> bool:
    """Whether shards or their plan are of another manifest than the one that is there."""
    plan = read_sidecar(PLAN.path(work))
    made = [*done_shards(work).values(), *([plan] if plan is not None else [])]
    return any(sidecar.inputs.get("manifest") != manifest.sha256 for sidecar in made)


def rebuild_section(work: Path, tables: Mapping[str, Sidecar], *, with_shards: bool) -> str:
    """The commands that make `tables` again, what they are made of, and what they will be.

    Manifest and annotations must be among them. `with_shards` tells of the shards too.
    """
    manifest, annotations = tables["manifest"], tables["annotations"]
    lists = [
        (
            f"{markdown_text(read['dataset'])}/{markdown_text(read['name'])}",
            markdown_text(read["file"]),
            f"{read['rows']:,}",
            f"`{annotations.inputs[read['file']]}`",
        )
        for read in annotations.notes["lists"]
    ]
    commands = _manifest_commands(manifest, annotations)
    commands += _shard_commands(work) if with_shards else []
    hashes = [(f"`{name}.parquet`", f"`{sidecar.sha256}`") for name, sidecar in tables.items()]
    versions = manifest.versions
    return f"""\
## How to make it again

With k710 {versions["k710"]}, DuckDB {versions["duckdb"]}, and these lists in `annotations`
(`k710 fetch-annotations` gets the official ones, which shrink over the years):

{markdown_table(("list", "file", "rows", "SHA-256"), lists)}
```sh
{chr(10).join(commands)}
```

The same lists give the same tables, byte for byte.{_of_index(work, "index" in tables)}

{markdown_table(("table", "SHA-256"), hashes)}
"""


def _of_index(work: Path, is_there: bool) -> str:
    """What is true of index.parquet, which is made of videos as well."""
    if not is_there:
        return ""
    reasons = _why_other_shards(work)
    if not reasons:
        return (
            " `index.parquet` is the same if the videos, and the\nversions that are named with the "
            "shards, are the same too."
        )
    why = "".join(f"\n- {reason}" for reason in reasons)
    return (
        " Not so `index.parquet`: the same videos may\nmake other shards, since of those that it "
        f"tells of\n{why}"
    )


def _why_other_shards(work: Path) -> list[str]:
    """Why the same commands may lay the same videos into other shards; [] where they don't."""
    path, done = PLAN.path(work), done_shards(work)
    plan = read_sidecar(path)
    if plan is None or not path.is_file():
        return ["the plan is not there"]
    with duckdb.connect() as con:
        values = {"path": parquet_pattern(path)}
        ((planned, is_twice),) = run(con, _PLACES, values)
    versions = {json.dumps(shard.params["versions"], sort_keys=True) for shard in done.values()}
    reasons = {
        "some were planned for only what had a copy then (`--found-only`)": any(
            generation.get("found_only") for generation in plan.params["generations"]
        ),
        "some have clips that failed before, and got another place (another copy, or `--retry`)": (
            is_twice
        ),
        "some that were planned are not made": set(planned or ()) != set(done),
        "not all were made by the same versions": len(versions) > 1,
    }
    return [reason for reason, is_so in reasons.items() if is_so]


# --- commands


def _manifest_commands(manifest: Sidecar, annotations: Sidecar) -> list[str]:
    """Lines of a shell that make the same manifest of the same lists in annotations/."""
    rules = manifest.params
    merge = " --merge-editions" if annotations.params["merge_editions"] else ""
    protect, prefer = ",".join(rules["protect"]) or "none", ",".join(rules["prefer"])
    return [
        f"k710 build-manifest --annotations annotations{merge} \\",
        f"    --protect {protect} --prefer {prefer} --dedup {rules['dedup']}",
    ]


def _shard_commands(work: Path) -> list[str]:
    """Lines that make shards of the copies in videos/: one `k710 shard` for each run that planned.

    None where there is no plan.
    """
    plan, encoding = read_sidecar(PLAN.path(work)), planned_encoding(work)
    if plan is None or encoding is None:
        return []
    generations = plan.params["generations"]
    views = sorted({view for generation in generations for view in generation["views"]})
    lines = [f"k710 index --videos videos    # or: k710 download --views {','.join(views)}"]
    options = f"--profile {encoding.profile} --short-side {encoding.short_side}"
    options += f" --fps {encoding.fps}" if encoding.fps is not None else ""
    options += " --audio" if encoding.audio else ""
    for generation in generations:
        size = _shard_size(generation["seconds_per_shard"], encoding)
        found_only = " --found-only" if generation.get("found_only") else ""
        lines.append(f"k710 shard --views {','.join(generation['views'])} \\")
        lines.append(f"    {options} --shard-size {size} --seed {generation['seed']}{found_only}")
    return [*lines, "k710 verify"]


def _shard_size(seconds: int, encoding: Encoding) -> str:
    """A size for `--shard-size` that makes shards of just so many seconds, in megabytes if any."""
    num_bytes = round(seconds * bytes_per_second(encoding))
    megabytes = round(num_bytes / 1e6)
    if megabytes and seconds_per_shard(megabytes * 1_000_000, encoding) == seconds:
        return f"{megabytes}MB"
    return str(num_bytes)
