"""The commands that make a work directory again, as its sidecars tell of them."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from k710.plan import bytes_per_second, seconds_per_shard
from k710.tables import Sidecar
from k710.transcode import Encoding

__all__ = ["rebuild_commands"]


def rebuild_commands(manifest: Sidecar, annotations: Sidecar, plan: Sidecar | None) -> list[str]:
    """Lines of a shell that make the same tables of the same lists in annotations/.

    With `plan` also the same shards of the same copies in videos/: one `k710 shard` for each run
    that planned more of them.
    """
    rules = manifest.params
    merge = " --merge-editions" if annotations.params["merge_editions"] else ""
    protect, prefer = ",".join(rules["protect"]) or "none", ",".join(rules["prefer"])
    lines = [
        f"k710 build-manifest --annotations annotations{merge} \\",
        f"    --protect {protect} --prefer {prefer} --dedup {rules['dedup']}",
    ]
    if plan is None:
        return lines
    views = sorted({view for made in plan.params["generations"] for view in made["views"]})
    lines.append(f"k710 index --videos videos    # or: k710 download --views {','.join(views)}")
    encoding = _encoding(plan.params["encoding"])
    options = f"--profile {encoding.profile} --short-side {encoding.short_side}"
    options += f" --fps {encoding.fps}" if encoding.fps is not None else ""
    options += " --audio" if encoding.audio else ""
    for generation in plan.params["generations"]:
        size = _shard_size(generation["seconds_per_shard"], encoding)
        lines.append(f"k710 shard --views {','.join(generation['views'])} \\")
        lines.append(f"    {options} --shard-size {size} --seed {generation['seed']}")
    return [*lines, "k710 verify"]


def _encoding(params: Mapping[str, Any]) -> Encoding:
    fps = None if params["fps"] is None else Fraction(params["fps"])
    return Encoding(params["profile"], params["short_side"], fps, params["audio"])


def _shard_size(seconds: int, encoding: Encoding) -> str:
    """A size for `--shard-size` that makes shards of just so many seconds, in megabytes if any."""
    num_bytes = round(seconds * bytes_per_second(encoding))
    megabytes = round(num_bytes / 1e6)
    if megabytes and seconds_per_shard(megabytes * 1_000_000, encoding) == seconds:
        return f"{megabytes}MB"
    return str(num_bytes)
