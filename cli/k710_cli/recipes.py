"""recipes: the published results that can be trained, and what each costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k710_cli.options import Json
from k710_cli.screen import console, print_json, say, table
from k710_cli.train import Settings

if TYPE_CHECKING:
    from uniformerv2.recipe import Recipe

__all__ = ["recipes"]


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one, every key of it.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """List the recipes with what they cost, or print one, with --set as a run would have it.

    Example: k710 recipes k710_b16_f8x224 --set optim.epochs=10
    """
    from uniformerv2.recipe_toml import published_recipes, read_recipe, to_toml

    if name is None and settings:
        raise typer.BadParameter("needs the NAME of a recipe", param_hint="--set")
    if name is not None and not as_json:
        say(
            to_toml(read_recipe(Path(name) if name.endswith(".toml") else name, settings or ())),
            end="",
        )
        return
    names = published_recipes() if name is None else [name]
    rows = [_row(read_recipe(each, settings or ())) for each in names]
    if as_json:
        return print_json(rows)
    listed = table("recipe", "M params", "GMACs", "~GiB", "~H100-h", "views", "published")
    listed.columns[0].no_wrap = True  # to be copied
    for row in rows:
        trained = row["trained"] / 1e6
        listed.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.1f}" + (f" ({trained:.1f})" if row["is_frozen"] else ""),
            f"{row['macs'] / 1e9:,.0f}",
            f"{row['memory_gib']:.0f}",
            "" if row["gpu_hours"] is None else f"{row['gpu_hours']:,.0f}",
            row["views"],
            "none" if row["top1"] is None else f"{row['top1']:.1f}",
        )
    console().print(listed)
    say(
        "\nIn brackets: parameters that are trained. GMACs of one view. GiB of each GPU, and\n"
        "hours of H100s on the published lists with run.compile=true: estimates. Views: frames x\n"
        "crops x clips. Published: top-1 in percent."
    )
    for row in rows:
        if _is_run(row):
            say(f"{row['name']}: {row['status']}")
    say("Run here: none of the others." if any(_is_run(r) for r in rows) else "Run here: none.")


def _is_run(row: dict[str, Any]) -> bool:
    return bool(row["status"] != "not run here")


def _row(recipe: "Recipe") -> dict[str, Any]:
    import dataclasses

    from uniformerv2.cost import cost_of

    published = recipe.published
    views = f"{recipe.data.frames}x{recipe.eval.crops}x{recipe.eval.clips}"
    return {
        "name": recipe.name,
        **dataclasses.asdict(cost_of(recipe)),
        "is_frozen": recipe.model.frozen,
        "train": recipe.data.train,
        "start": recipe.start.of,
        "views": views,
        "top1": None if published is None else published.top1,
        "top5": None if published is None else published.top5,
        "status": recipe.status,
    }
