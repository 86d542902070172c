"""The app, its error border, and the commands in the order of `k710 --help`."""

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
from k710_cli.screen import guard_terminal, say

__all__ = ["app"]


_UsageError: Any = typer.BadParameter.__mro__[1]  # click's, or the one of Typer's copy of click


class _WordedErrors(TyperGroup):
    """Prints a K710Error as it is worded, exit 1. Anything else is a bug with its traceback."""

    def invoke(self, ctx: Any) -> Any:
        from k710.errors import K710Error, printable_lines

        guard_terminal()
        try:
            return super().invoke(ctx)
        except K710Error as error:
            say(str(error), to_stderr=True)  # Rich would wrap paths
            raise typer.Exit(1) from error
        except _UsageError as error:  # which Typer prints
            text = printable_lines(error.format_message())
            raise _UsageError(text, ctx=error.ctx) from error


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

        say(f"k710 {metadata.version('k710')}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None: ...


app.command("fetch-annotations")(manifest.fetch_annotations)
app.command("build-manifest")(manifest.build_manifest)
# So that an id like -aU-xCCzkT0 is an argument: this command has no short options.
app.command("explain", context_settings={"ignore_unknown_options": True})(manifest.explain)
app.command("index")(index.index)
app.command("download")(download.download)
app.command("shard")(shards.shard)
app.command("verify")(shards.verify)
app.command("export")(export.export)
app.command("status")(status.status)
app.command("card")(status.card)
app.command("bench-loader")(loader.bench_loader)
app.command("recipes")(recipes.recipes)
app.command("pretrain")(train.pretrain)
app.command("finetune")(train.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("remap-head")(weights.remap_head)
app.command("convert")(weights.convert)
app.command("predict")(weights.predict)
app.command("labels")(classes.labels)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
