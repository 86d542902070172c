"""Rebuild Kinetics-710 from the published lists: manifest, labels, and why each row is in or out.

    import k710
    summary = k710.build_manifest("annotations", work="work")
    train = k710.load_view("k710/train", work="work")     # pandas.DataFrame, one row a clip

Every public name is in `__all__`. Modules load at the first use of one of their names, so that
`import k710` costs nothing and the command line starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k710.class_files import ClassFileCheck, check_class_file
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
    from k710.fetch import Fetched, fetch_annotations
    from k710.labels import class_names, head_map, k710_order, resolve_label
    from k710.manifest import Summary, build_manifest
    from k710.views import ExplainedRow, explain, load_view

_HOMES = {
    "class_files": ("ClassFileCheck", "check_class_file"),
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
    "fetch": ("Fetched", "fetch_annotations"),
    "labels": ("class_names", "head_map", "k710_order", "resolve_label"),
    "manifest": ("Summary", "build_manifest"),
    "views": ("ExplainedRow", "explain", "load_view"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ClassFileCheck",
    "ExplainedRow",
    "Fetched",
    "K710Error",
    "LabelError",
    "MediaError",
    "MissingExtra",
    "NamePair",
    "RecipeError",
    "SchemaError",
    "SourceError",
    "StageError",
    "Summary",
    "WeightsError",
    "build_manifest",
    "check_class_file",
    "class_names",
    "explain",
    "fetch_annotations",
    "head_map",
    "k710_order",
    "label_evidence",
    "load_view",
    "resolve_label",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'k710' has no attribute {name!r}")
    return getattr(importlib.import_module(f"k710.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
