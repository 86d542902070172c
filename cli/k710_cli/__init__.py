"""The command `k710`: each subcommand opens, calls one function of the library, and prints."""

from k710_cli.main import app

__all__ = ["app"]
