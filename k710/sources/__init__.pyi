from .index import IndexSummary as IndexSummary
from .index import ViewCoverage as ViewCoverage
from .index import index_videos as index_videos
from .table import current_sources as current_sources
from .table import refresh_sources as refresh_sources
