from .samples import open_view as open_view
from .summary import ExportSummary as ExportSummary
from .view import export_view as export_view
