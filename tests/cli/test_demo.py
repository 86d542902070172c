"""k710 demo: where it may write. That it runs is for scripts/demo."""

from pathlib import Path

from support.command_line import k710


def test_a_folder_that_it_can_not_have_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = k710("demo", "--folder", tmp_path / "file" / "demo")
    assert done.returncode == 1 and "can't be used" in done.stderr
    done = k710("demo", "--folder", tmp_path)
    assert done.returncode == 1 and "is no demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
