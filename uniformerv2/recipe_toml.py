"""Recipes as TOML, in and out, and with single keys set.

    recipes/k710_b16_f8x224.toml    one file for each published result
    work/runs/NAME/recipe.toml      what a run was made with, every key

Keys are written like optim.lr; "none" is the value of what is left out. Needs no PyTorch.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from k710.errors import RecipeError, shown
from uniformerv2.config import SIZES, Config
from uniformerv2.field_types import Checked
from uniformerv2.recipe import (
    NUM_CLASSES,
    Augment,
    Data,
    Evaluation,
    Optim,
    Published,
    Recipe,
    Run,
    Start,
)

__all__ = [
    "RECIPES",
    "change_recipe",
    "find_fine_tuning_recipe",
    "published_recipes",
    "read_recipe",
    "to_toml",
]

RECIPES = Path(__file__).with_name("recipes")
_SECTIONS: dict[str, type[Checked]] = {
    "model": Config,
    "start": Start,
    "data": Data,
    "augment": Augment,
    "optim": Optim,
    "run": Run,
    "eval": Evaluation,
    "published": Published,
}
_KEYS: dict[str, Any] = {"name": str, "status": str, "model.arch": str} | {
    f"{section}.{name}": hint
    for section, kind in _SECTIONS.items()
    for name, hint in get_type_hints(kind).items()
    if name != "num_classes"  # those of the view that is trained on
}


def published_recipes() -> list[str]:
    """The names of the recipes that come with k710, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def find_fine_tuning_recipe(target: str, config: Config, frames: int) -> str:
    """The name of the published recipe that fine-tunes such a model, of so many frames.

    RecipeError names those that there are.
    """
    alike = ("size", "patch", "width", "depth", "frozen")
    there = []
    for name in published_recipes():
        recipe = read_recipe(name)
        if recipe.start.kind != "video" or recipe.dataset != target:
            continue
        is_alike = all(getattr(recipe.model, key) == getattr(config, key) for key in alike)
        if is_alike and recipe.data.frames == frames:
            return name
        there.append(name)
    raise RecipeError(
        f"No published recipe fine-tunes a model {config.width} wide, {config.depth} deep, of "
        f"{config.size} pixels and {frames} frames on {target}.\n"
        f"There are {', '.join(there)}: choose one with --recipe, or write a file of your own."
    )


def read_recipe(name: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe that comes with k710, or a file of TOML.

    Args:
        name: Of a published recipe, or the path of a .toml file.
        settings: `key=value` texts like "optim.lr=2e-6", in place of the recipe's own values.

    Raises:
        RecipeError: There is no such recipe, or a key or value is wrong. It names the file, the
            key, what is allowed, and the nearest name of an unknown key.
    """
    path = Path(name)
    where = shown(path, limit=1000)
    if path.suffix != ".toml":
        if str(name) not in published_recipes():
            raise RecipeError(
                f"There is no recipe {shown(name)}.{_nearest(str(name), published_recipes())} "
                "k710 recipes lists all; a file of your own ends with .toml."
            )
        path, where = RECIPES / f"{name}.toml", f"Recipe {shown(name)}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{where} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # also of bytes, of huge numbers, of deep lists
        raise RecipeError(f"{where} is no TOML: {error}.") from error
    values = {"name": path.stem}
    for section, table in tables.items():
        is_table = isinstance(table, Mapping)
        if "." in section or (table == {} and section not in _SECTIONS):
            near = _nearest(section, (*_SECTIONS, *_KEYS))
            raise RecipeError(f"{where}: no recipe has a key {shown(section)}.{near}")
        values |= {f"{section}.{k}": v for k, v in table.items()} if is_table else {section: table}
    return _build(values, settings, where)


def change_recipe(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `key=value` settings instead of its own values; RecipeError as above."""
    return _build(_values_of(recipe), settings, f"Recipe {shown(recipe.name)}")


def _build(values: Mapping[str, object], settings: Iterable[str], where: str) -> Recipe:
    """The recipe of these keys and values, and of settings. RecipeError begins with `where`."""
    found = {key: _as_python(key, value, where) for key, value in values.items()}
    plain = SIZES.get(str(found.get("model.arch", "b16")), Config())
    for field in fields(plain):  # another size, if one is set, has its own
        value, key = getattr(plain, field.name), f"model.{field.name}"
        if key in found and (type(found[key]), found[key]) == (type(value), value):
            del found[key]
    for setting in settings:
        key, _, text = setting.partition("=")
        key = key.strip()
        if not text or "." not in key:
            raise RecipeError(f"--set {shown(setting)} must be like --set optim.lr=2e-6")
        found[key] = _as_python(key, _parse(text.strip()), where)
    tables: dict[str, dict[str, Any]] = {section: {} for section in ("", *_SECTIONS)}
    for key, value in found.items():
        section, _, name = key.rpartition(".")
        tables[section][name] = value
    arch = str(tables["model"].pop("arch", "b16"))
    if arch not in SIZES:
        near = _nearest(arch, SIZES)
        known = ", ".join(SIZES)
        raise RecipeError(f"{where}: model.arch ({shown(arch)}) must be one of {known}.{near}")
    tables["model"] = asdict(SIZES[arch]) | tables["model"]
    parts: dict[str, Any] = {}
    for section, kind in _SECTIONS.items():
        try:
            if tables[section]:
                parts[section] = kind(**tables[section])
        except TypeError as error:
            raise RecipeError(f"{where}: {section}: {error}.") from error
        except ValueError as error:
            raise RecipeError(f"{where}: {section}.{error}.") from error
    try:
        recipe = Recipe(**tables[""], **parts, arch=arch)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}.") from error
    model = replace(recipe.model, num_classes=NUM_CLASSES[recipe.dataset])
    return replace(recipe, model=model)


def _as_python(key: str, value: object, where: str) -> object:
    """A value of TOML as a recipe has it. RecipeError for a key that no recipe has."""
    if key not in _KEYS:
        raise RecipeError(f"{where}: no recipe has a key {shown(key)}.{_nearest(key, _KEYS)}")
    if value == "none" and NoneType in get_args(_KEYS[key]):
        return None
    return tuple(value) if isinstance(value, list) else value


def _parse(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # k400/train needs no quotes


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    return f" Near it: {', '.join(near)}." if near else ""


def _values_of(recipe: Recipe) -> dict[str, object]:
    """Each key of the recipe, like optim.lr -> its value."""
    values: dict[str, object] = {}
    for key in _KEYS:
        section, _, name = key.rpartition(".")
        part = getattr(recipe, section) if section and key != "model.arch" else recipe
        if part is not None:
            values[key] = getattr(part, name)
    return values


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML, every key: `read_recipe` gives the same back."""
    lines, last = [], ""
    for key, value in _values_of(recipe).items():
        section, _, name = key.rpartition(".")
        lines += ["", f"[{section}]"] if section != last else []
        lines.append(f"{name} = {_toml(value)}")
        last = section
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return repr(value)
