"""Rebuild Kinetics-710: from the published lists to a manifest, from videos to shards.

    import k710
    summary = k710.build_manifest("annotations", work="work")
    train = k710.load_view("k710/train", work="work")     # pandas.DataFrame, one row a clip
    k710.index_videos(["videos"], work="work")
    k710.make_shards(["k710/train", "k710/val"], work="work")

Every public name is in `__all__`. Modules load at the first use of one of their names, so that
`import k710` costs nothing and the command line starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k710.card import Card, write_card
    from k710.class_files import ClassFileCheck, check_class_file
    from k710.engines import Local
    from k710.errors import (
        K710Error,
        LabelError,
        MediaError,
        MissingExtra,
        RecipeError,
        SchemaError,
        SourceError,
        StageError,
        WeightsError,
    )
    from k710.evidence import NamePair, label_evidence
    from k710.export import export_view
    from k710.export_summary import ExportSummary
    from k710.fetch import Fetched, fetch_annotations
    from k710.index import IndexSummary, index_videos
    from k710.labels import class_names, head_map, k710_order, resolve_label
    from k710.manifest import Summary, build_manifest
    from k710.parts import Part
    from k710.ray_engine import Ray
    from k710.shard_summary import ShardSummary
    from k710.shards import finish_shards, make_shards
    from k710.status import WorkStatus, read_status
    from k710.transcode import Encoding
    from k710.verify import Verified, verify_shards
    from k710.video import read_frames
    from k710.views import ExplainedRow, explain, load_view

_HOMES = {
    "card": ("Card", "write_card"),
    "class_files": ("ClassFileCheck", "check_class_file"),
    "engines": ("Local",),
    "errors": (
        "K710Error",
        "LabelError",
        "MediaError",
        "MissingExtra",
        "RecipeError",
        "SchemaError",
        "SourceError",
        "StageError",
        "WeightsError",
    ),
    "evidence": ("NamePair", "label_evidence"),
    "export": ("export_view",),
    "export_summary": ("ExportSummary",),
    "fetch": ("Fetched", "fetch_annotations"),
    "index": ("IndexSummary", "index_videos"),
    "labels": ("class_names", "head_map", "k710_order", "resolve_label"),
    "manifest": ("Summary", "build_manifest"),
    "parts": ("Part",),
    "ray_engine": ("Ray",),
    "shard_summary": ("ShardSummary",),
    "shards": ("finish_shards", "make_shards"),
    "status": ("WorkStatus", "read_status"),
    "transcode": ("Encoding",),
    "verify": ("Verified", "verify_shards"),
    "video": ("read_frames",),
    "views": ("ExplainedRow", "explain", "load_view"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Card",
    "ClassFileCheck",
    "Encoding",
    "ExplainedRow",
    "ExportSummary",
    "Fetched",
    "IndexSummary",
    "K710Error",
    "LabelError",
    "Local",
    "MediaError",
    "MissingExtra",
    "NamePair",
    "Part",
    "Ray",
    "RecipeError",
    "SchemaError",
    "ShardSummary",
    "SourceError",
    "StageError",
    "Summary",
    "Verified",
    "WeightsError",
    "WorkStatus",
    "build_manifest",
    "check_class_file",
    "class_names",
    "explain",
    "export_view",
    "fetch_annotations",
    "finish_shards",
    "head_map",
    "index_videos",
    "k710_order",
    "label_evidence",
    "load_view",
    "make_shards",
    "read_frames",
    "read_status",
    "resolve_label",
    "verify_shards",
    "write_card",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'k710' has no attribute {name!r}")
    return getattr(importlib.import_module(f"k710.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
