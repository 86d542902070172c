"""`python -m k710_cli`: the same as the command `k710`."""

from k710_cli import app

app(prog_name="k710")
