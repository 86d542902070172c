"""The model before its first step: an image ViT armed, a video model with another head, or fresh.

Where weights are drawn, they are the same for a seed on every process.
"""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from k710.errors import RecipeError, WeightsError, shown
from k710.labels.orders import Family
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Recipe
from uniformerv2.weights.class_order import Classes, ClassOrder, positions
from uniformerv2.weights.image_vits import arm, image_vit
from uniformerv2.weights.load import check_shapes, our_tensors, read_checkpoint, shapes_of
from uniformerv2.weights.names import shapes_in

__all__ = ["OF_TRAINING", "ORDER", "draw_model", "init_model"]

ORDER: Family = "opengvlab"  # of the head of a model that starts anew
# What no weights decide: of a model that starts from another video model's, the recipe's.
OF_TRAINING = (
    "drop_path",
    "global_drop_path",
    "drop_path_mode",
    "global_dropout",
    "head_dropout",
    "checkpoint_blocks",
)


def draw_model(recipe: Recipe) -> UniFormerV2:
    """A model with the recipe's shapes and drawn weights, on the CPU."""
    torch.manual_seed(_seed(recipe))
    return UniFormerV2(recipe.model)


def _seed(recipe: Recipe) -> int:
    """Of the drawn weights, which are others for each recipe.

    A new head that had the rows which a head of K710 began with would fit what was trained below
    that one.
    """
    words = (recipe.run.seed, zlib.crc32(recipe.name.encode()))
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def init_model(recipe: Recipe, init: str | None) -> tuple[UniFormerV2, ClassOrder]:
    """The model that the recipe starts from, in training mode, and the order of its classes.

    `init` is a file, a run's folder, or timm:NAME, as the recipe's `start` needs it. RecipeError
    where it is missing; WeightsError, LabelError where it does not fit.
    """
    order = ClassOrder(cast(Classes, recipe.dataset), ORDER)
    if recipe.start.kind == "scratch":
        if init is not None:
            raise RecipeError(
                f"Recipe {shown(recipe.name)} starts from nothing: {shown(init)} has no use.\n"
                "Leave it out, or --set start.kind=image."
            )
        return draw_model(recipe).train(), order
    if init is None:
        raise RecipeError(_lacking(recipe))
    if recipe.start.kind == "image":
        torch.manual_seed(_seed(recipe))
        return arm(image_vit(init), recipe.model).train(), order
    return _replace_head(recipe, Path(init))


def _lacking(recipe: Recipe) -> str:
    whose = recipe.start.of or "another model"
    if recipe.start.kind == "video":
        return (
            f"Recipe {shown(recipe.name)} starts from the weights of {whose}: "
            "k710 finetune --from RUN_OR_CKPT."
        )
    return (
        f"Recipe {shown(recipe.name)} starts from {whose}: give it with --init: OpenAI's file, or "
        "timm:vit_base_patch16_clip_quickgelu_224.openai (large_patch14 for L/14).\n"
        "--set start.kind=scratch starts from nothing."
    )


def _replace_head(recipe: Recipe, path: Path) -> tuple[UniFormerV2, ClassOrder]:
    """A video model whose head gets the classes of the recipe's dataset, by class."""
    checkpoint = read_checkpoint(path)
    tensors = our_tensors(checkpoint)
    shapes = shapes_in(replace(recipe.model, num_classes=checkpoint.config.num_classes), "k710")
    check_shapes(
        shapes, shapes_of(tensors), f"{shown(path)} ({recipe.arch} of {recipe.name} is asked)"
    )
    # What else the weights decide is theirs: activation, epsilon, where the global blocks are.
    theirs = checkpoint.config
    config = replace(
        theirs,
        num_classes=recipe.model.num_classes,
        **{name: getattr(recipe.model, name) for name in OF_TRAINING},
    )
    torch.manual_seed(_seed(recipe))
    model = UniFormerV2(config)
    family = ORDER if checkpoint.order is None else checkpoint.order.family
    order = ClassOrder(cast(Classes, recipe.dataset), family)
    head = ("head.weight", "head.bias")
    if recipe.start.head == "mapped":
        if checkpoint.order is None:
            raise WeightsError(
                f"{shown(path)} does not say which classes its head has: --set start.head=random "
                "begins with a new one."
            )
        rows = positions(checkpoint.order, order)
        tensors |= {name: tensors[name][rows] for name in head}
    else:
        fresh = model.state_dict()
        tensors |= {name: fresh[name] for name in head}
    model.load_state_dict(
        {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    )
    return model.train(), order
