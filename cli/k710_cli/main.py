"""The app, its error border, and the commands in the order of `k710 --help`."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from k710_cli import (
    classes,
    demo,
    doctor,
    download,
    evaluate,
    export,
    index,
    loader,
    manifest,
    recipes,
    shards,
    status,
    train,
    weights,
)

__all__ = ["app"]


class _WordedErrors(TyperGroup):
    """Prints a K710Error as it is worded, exit 1. Anything else is a bug with its traceback."""

    def invoke(self, ctx: Any) -> Any:
        from k710.errors import K710Error, printable

        try:
            return super().invoke(ctx)
        except K710Error as error:
            # Plain print: Rich would wrap paths, and read file contents as markup.
            for line in str(error).splitlines():
                print(printable(line), file=sys.stderr)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_WordedErrors,
    help="Rebuild Kinetics-710 from the published lists, and train UniFormerV2 on it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"k710 {metadata.version('k710')}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None: ...


manifest.add_to(app)
index.add_to(app)
download.add_to(app)
shards.add_to(app)
export.add_to(app)
status.add_to(app)
loader.add_to(app)
recipes.add_to(app)
train.add_to(app)
evaluate.add_to(app)
weights.add_to(app)
classes.add_to(app)
doctor.add_to(app)
demo.add_to(app)
