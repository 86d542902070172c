"""Rules that SQL and Python share say the same."""

from pathlib import Path

import pytest

from k710.tables.connection import connect, run
from k710.video.cut import is_enough
from support.paths import ROOT


@pytest.mark.parametrize(
    ("found_s", "kept"), [(5.0, True), (4.99, False), (10.0, True), (0.0, False), (None, False)]
)
def test_half_of_a_window_is_enough(tmp_path: Path, found_s: float | None, kept: bool) -> None:
    assert is_enough(found_s, 10) == kept
    with connect(tmp_path, memory_limit="1GB") as con:
        found = run(con, "select is_enough($found_s::double, 20, 30)", {"found_s": found_s})
    assert found == [(kept,)]


def test_nothing_is_counted_by_what_is_null_over_no_rows() -> None:
    """DuckDB's count_if is, and of rows that have no value too; count(*) filter (...) is 0."""
    files = [path for room in ("k710", "uniformerv2") for path in (ROOT / room).rglob("*.*")]
    texts = {path: path.read_text() for path in files if path.suffix in (".sql", ".py")}
    assert len(texts) > 100
    assert [path for path, text in texts.items() if "count_if(" in text] == []
