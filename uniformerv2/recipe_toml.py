"""Recipes as TOML, in and out, and with single keys set.

    recipes/k710_b16_f8x224.toml    one file for each published result
    work/runs/NAME/recipe.toml      what a run was made with, every key

A key that no recipe has is an error that names the nearest; a value of another type is one too.
"none" is the value of what is left out. Needs no PyTorch.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, get_args

from k710.errors import RecipeError, shown
from uniformerv2.config import SIZES, Config, check_type, options_of
from uniformerv2.recipe import (
    NAME,
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
    "changed",
    "differences",
    "fine_tuning_recipe",
    "published_recipes",
    "read_recipe",
    "to_toml",
]

RECIPES = Path(__file__).with_name("recipes")

_SECTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "start": Start,
        "data": Data,
        "augment": Augment,
        "optim": Optim,
        "run": Run,
        "eval": Evaluation,
        "published": Published,
    }
)
_NOT_IN_FILES = {"num_classes"}  # of the model: the classes of the view that is trained on decide


def published_recipes() -> list[str]:
    """The names of the recipes that come with k710, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(name: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """The recipe of that name, or of a TOML file, with `key=value` settings instead of its own.

    RecipeError names the file, the key, and what is near it.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = RECIPES / f"{name}.toml"
        if not NAME.fullmatch(str(name)) or not path.is_file():
            near = _nearest(str(name), published_recipes())
            raise RecipeError(
                f"There is no recipe {shown(name)}.{near} k710 recipes lists all; a file of your "
                "own ends with .toml."
            )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{shown(path, limit=1000)} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # also of bytes, of huge numbers, of deep lists
        raise RecipeError(f"{shown(path, limit=1000)} is no TOML: {error}.") from error
    values.setdefault("name", path.stem)
    return changed(_recipe(values, shown(path, limit=1000)), settings)


def changed(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `key=value` settings instead of its own values."""
    tables = _tables(recipe)
    plain = dataclasses.asdict(SIZES[recipe.arch])  # another arch has its own
    tables["model"] = {k: v for k, v in tables["model"].items() if k == "arch" or v != plain[k]}
    return _recipe(_set(tables, settings), f"Recipe {shown(recipe.name)}")


def _set(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The tables with each `section.key=value` put in. Values are TOML's; none takes a key out."""
    out = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals or not dot:
            raise RecipeError(f"--set {shown(setting)} must be like --set optim.lr=2e-6")
        known = _keys_of(section)
        if name not in known:
            every = [f"{s}.{k}" for s in ("model", *_SECTIONS) for k in _keys_of(s)]
            raise RecipeError(
                f"No recipe has a key {shown(key.strip())}.{_nearest(key.strip(), every)}"
            )
        out.setdefault(section, {})[name] = _value(text.strip())
    return out


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # k400/train needs no quotes


def _keys_of(section: str) -> list[str]:
    if section == "model":
        return ["arch", *(f.name for f in fields(Config) if f.name not in _NOT_IN_FILES)]
    return [f.name for f in fields(_SECTIONS[section])] if section in _SECTIONS else []


def _recipe(values: Mapping[str, Any], where: str) -> Recipe:
    plain = {"name": str, "status": str}
    for key in values:
        if key not in (*plain, "model", *_SECTIONS):
            near = _nearest(key, [*plain, "model", *_SECTIONS])
            raise RecipeError(f"{where} has {shown(key)}, which no recipe has.{near}")
    parts: dict[str, Any] = {key: values[key] for key in plain if key in values}
    try:
        for key, value in parts.items():
            check_type(key, plain[key], value)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}.") from error
    for section, kind in _SECTIONS.items():
        if section in values:
            parts[section] = _filled(kind, {}, values[section], section, where)
    model = dict(_table(values.get("model", {}), "model", where))
    arch = model.pop("arch", "b16")
    if arch not in SIZES:
        near = _nearest(str(arch), list(SIZES))
        raise RecipeError(
            f"{where}: model.arch is {shown(arch)}: known are {', '.join(SIZES)}.{near}"
        )
    base = {f.name: getattr(SIZES[arch], f.name) for f in fields(Config)}
    recipe = Recipe(**parts, arch=arch)
    base["num_classes"] = _NUM_CLASSES[recipe.dataset]
    return replace(recipe, model=_filled(Config, base, model, "model", where))


_NUM_CLASSES = {"k710": 710, "k400": 400, "k600": 600, "k700": 700}


def _filled(kind: Any, base: Mapping[str, Any], values: object, section: str, where: str) -> Any:
    """A dataclass with these values: lists as tuples, whole numbers as floats where those are."""
    types = {f.name: f.type for f in fields(kind)}
    filled = dict(base)
    for key, value in _table(values, section, where).items():
        if key not in _keys_of(section):
            near = _nearest(key, _keys_of(section))
            raise RecipeError(f"{where} has {section}.{shown(key)}, which no recipe has.{near}")
        wanted = types[key]
        if value == "none" and NoneType in options_of(wanted):
            value = None
        try:
            value = _as_wanted(value, wanted)
            check_type(f"{section}.{key}", wanted, value)
        except OverflowError as error:
            raise RecipeError(f"{where}: {section}.{key} is too large a number.") from error
        except ValueError as error:
            raise RecipeError(f"{where}: {error}.") from error
        filled[key] = value
    try:
        return kind(**filled)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {section}: {error}.") from error


def _as_wanted(value: object, wanted: Any) -> object:
    """Lists as tuples, and whole numbers as floats where those are wanted: AdamW minds."""
    options = options_of(wanted)
    if isinstance(value, list):
        is_of_floats = any(get_args(option)[:1] == (float,) for option in options)
        return tuple(_as_wanted(one, float) if is_of_floats else one for one in value)
    return float(value) if type(value) is int and float in options else value


def _table(value: object, section: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: {section} is a table of keys, [{section}].")
    return value


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    return f" Near it: {', '.join(near)}." if near else ""


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML, every key: `read_recipe` gives the same back."""
    lines = []
    for key, value in _tables(recipe).items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]"]
            lines += [f"{k} = {_toml(v)}" for k, v in value.items()]
        else:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, ""])


def _tables(recipe: Recipe) -> dict[str, Any]:
    tables: dict[str, Any] = {"name": recipe.name, "status": recipe.status}
    model = {k: v for k, v in dataclasses.asdict(recipe.model).items() if k not in _NOT_IN_FILES}
    tables["model"] = {"arch": recipe.arch, **model}
    for section in _SECTIONS:
        part = getattr(recipe, section)
        if part is not None:
            tables[section] = dataclasses.asdict(part)
    return tables


def _toml(value: Any) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple() | list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return repr(value)


_FREE = {  # they change nothing that comes out, but for rounding
    "model.checkpoint_blocks",
    "data.val",  # is looked at alone
    "run.clips_per_gpu",
    "run.compile",
    "run.sharding",
    "run.workers",
    "run.checkpoint_minutes",
    "run.keep",
    "run.log_steps",
    "run.tensorboard",
    "run.wandb",
}


def differences(mine: Recipe, other: Recipe) -> list[str]:
    """Where they would train another model: `key: value, was value` lines; none if nowhere."""
    lines = []
    here, there = _tables(mine), _tables(other)
    for section in ("model", "start", "data", "augment", "optim", "run"):
        for key, value in here[section].items():
            if f"{section}.{key}" not in _FREE and there[section].get(key) != value:
                lines.append(f"{section}.{key}: {value}, was {there[section].get(key)}")
    return lines


def fine_tuning_recipe(target: str, config: Config, frames: int) -> str:
    """The published recipe that fine-tunes such a model, of so many frames, on `target`.

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
