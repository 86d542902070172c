from .index import (
    IndexSummary as IndexSummary,
    ViewCoverage as ViewCoverage,
    index_videos as index_videos,
)
from .table import current_sources as current_sources, refresh_sources as refresh_sources
