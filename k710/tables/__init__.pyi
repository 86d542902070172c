from .connection import connect as connect, make_table as make_table, run as run
from .reading import open_table as open_table, read_tables as read_tables
from .schemas import TABLES as TABLES, Table as Table, read_sql as read_sql
from .sidecar import (
    Sidecar as Sidecar,
    TableSpec as TableSpec,
    is_done as is_done,
    read_sidecar as read_sidecar,
    write_table as write_table,
)
