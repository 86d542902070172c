"""What README shows."""

import re

from support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(command: str) -> list[str]:
    """The lines that README shows under `$ command`."""
    block = re.search(rf"^\$ {re.escape(command)}$\n(.*?)^(?:```|\$ )", README, re.M | re.S)
    assert block, f"README does not show {command}"
    return block[1].splitlines()
