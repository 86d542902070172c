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
    from k710.annotations.fetch import Fetched, fetch_annotations
    from k710.engines.local import Local
    from k710.engines.ray import Ray
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
    from k710.export.summary import ExportSummary
    from k710.export.view import export_view
    from k710.labels.class_file import ClassFileCheck, check_class_file
    from k710.labels.orders import class_names, head_map, k710_order, resolve_label
    from k710.manifest.build import Summary, build_manifest
    from k710.manifest.evidence import NamePair, label_evidence
    from k710.manifest.read import ExplainedRow, explain, load_view
    from k710.report.card import Card, write_card
    from k710.report.status import WorkStatus, read_status
    from k710.shards.parts import Part
    from k710.shards.run import finish_shards, make_shards
    from k710.shards.summary import ShardSummary
    from k710.shards.verify import Verified, verify_shards
    from k710.sources.index import IndexSummary, index_videos
    from k710.video.encode import Encoding
    from k710.video.frames import read_frames

_HOMES = {
    "report.card": ("Card", "write_card"),
    "labels.class_file": ("ClassFileCheck", "check_class_file"),
    "engines.local": ("Local",),
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
    "manifest.evidence": ("NamePair", "label_evidence"),
    "export.view": ("export_view",),
    "export.summary": ("ExportSummary",),
    "annotations.fetch": ("Fetched", "fetch_annotations"),
    "sources.index": ("IndexSummary", "index_videos"),
    "labels.orders": ("class_names", "head_map", "k710_order", "resolve_label"),
    "manifest.build": ("Summary", "build_manifest"),
    "shards.parts": ("Part",),
    "engines.ray": ("Ray",),
    "shards.summary": ("ShardSummary",),
    "shards.run": ("finish_shards", "make_shards"),
    "report.status": ("WorkStatus", "read_status"),
    "video.encode": ("Encoding",),
    "shards.verify": ("Verified", "verify_shards"),
    "video.frames": ("read_frames",),
    "manifest.read": ("ExplainedRow", "explain", "load_view"),
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
