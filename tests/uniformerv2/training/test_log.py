"""The log of a run that goes on is that of one which nothing has interrupted."""

from pathlib import Path
from typing import Any

from uniformerv2.recipe import Run
from uniformerv2.training.log import RunLog, read_log

LINES = [{"step": step, "loss": 1 / step} for step in range(1, 6)]


def written(folder: Path, step: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Append lines after `step`; returns the line that was the last one before."""
    with RunLog(folder, step, Run()) as log:
        log.write(lines)
        log.flush()
        return dict(log.last)


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    assert list(read_log(tmp_path)) == []
    assert written(tmp_path, 0, LINES) == {}
    assert written(tmp_path, 3, LINES[3:]) == LINES[2]
    assert list(read_log(tmp_path)) == LINES


def test_a_line_that_a_kill_left_unfinished_is_the_end(tmp_path: Path) -> None:
    written(tmp_path, 0, LINES)
    path = tmp_path / "log.jsonl"
    for cut in (1, 3, 12):
        path.write_bytes(path.read_bytes()[:-cut])
        assert list(read_log(tmp_path)) == LINES[:4]
    assert written(tmp_path, 4, LINES[4:]) == LINES[3]
    assert list(read_log(tmp_path)) == LINES
