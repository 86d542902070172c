from .summary import ExportSummary as ExportSummary
from .view import export_view as export_view
