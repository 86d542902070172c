"""Parquet tables that stages leave for each other, each with a sidecar that says what made it.

In: rows on a DuckDB connection, and the .sql file that makes a table of them.
Out: <table>.parquet and <table>.parquet.json: the same inputs give the same bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
