"""Does a run fit into the memory that there is? Asked of the estimate, before any is taken."""

import torch

from k710.errors import RecipeError, shown
from k710.machine import usable_memory
from uniformerv2.cost import memory_bytes, num_parameters
from uniformerv2.distributed import Ranks
from uniformerv2.recipe import Recipe

__all__ = ["check_memory"]

_ERROR = 2.0  # of the estimate: no run is refused that might fit
_OF_A_WEIGHT = 4  # bytes of float32: each process draws or reads the whole model first


def check_memory(recipe: Recipe, ranks: Ranks) -> None:
    """RecipeError where training by a recipe needs far more memory than a process has."""
    here = usable_memory() / ranks.on_machine
    drawn = num_parameters(recipe.model) * _OF_A_WEIGHT
    trained = memory_bytes(recipe, ranks.ranks) / _ERROR
    if ranks.device.type == "cuda":
        on_gpu = torch.cuda.get_device_properties(ranks.device).total_memory
        _check(recipe, trained, on_gpu, "on each GPU")
        _check(recipe, drawn, here, "of memory for each process")
    else:
        _check(recipe, max(trained, drawn), here, "of memory for each process")


def _check(recipe: Recipe, needed: float, there: float, where: str) -> None:
    if needed > there:
        raise RecipeError(
            f"Recipe {shown(recipe.name)} needs at least {needed / 2**30:,.1f} GiB {where}, and "
            f"there are {there / 2**30:,.1f}.\n"
            f"That is of a model {recipe.model.width:,} wide and {recipe.model.depth} deep, and of "
            f"run.clips_per_gpu={recipe.run.clips_per_gpu:,} clips of "
            f"data.frames={recipe.data.frames:,}: set less, or take a larger machine. k710 recipes "
            "prints the estimate."
        )
