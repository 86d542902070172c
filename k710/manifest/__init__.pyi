from .build import Duplicates as Duplicates, Summary as Summary, build_manifest as build_manifest
from .read import (
    ExplainedRow as ExplainedRow,
    NamePair as NamePair,
    explain as explain,
    label_evidence as label_evidence,
    load_view as load_view,
)
from .rules import Rules as Rules
