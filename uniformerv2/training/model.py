"""The model that a run trains, with what moves it: as a checkpoint has them, or as it starts."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from k710.errors import WeightsError, shown
from uniformerv2.config import Config
from uniformerv2.distributed import Ranks
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Recipe, Run
from uniformerv2.training import checkpoint
from uniformerv2.training.init import OF_TRAINING, init_model
from uniformerv2.training.optim import freeze, parameter_groups
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.files import MODEL
from uniformerv2.weights.image_vits import OF_THE_VIT
from uniformerv2.weights.load import load_model, read_checkpoint

__all__ = ["Trainee", "average_in_place", "make_trainee", "precision_of"]


@dataclass(frozen=True, slots=True)
class Trainee:
    """The model and what moves it."""

    module: UniFormerV2  # its parameters are those of `model`
    model: nn.Module  # what is called: the same, or wrapped for several processes
    order: ClassOrder  # of the head
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] | None  # of the parameters over the last steps


def precision_of(run: Run, device: torch.device) -> str:
    """In what the model computes: fp32, bf16, fp16."""
    return run.precision or ("bf16" if device.type == "cuda" else "fp32")


def make_trainee(recipe: Recipe, init: str | None, last: Path | None, ranks: Ranks) -> Trainee:
    """Make the model, wrapped, and its optimizer: of the checkpoint `last`, or as it starts."""
    o, device = recipe.optim, ranks.device
    if last is None:
        module, order = init_model(recipe, init)
    else:
        found = read_checkpoint(last / MODEL)  # the first process has compared its hash
        if found.order is None:  # what a run saves has one
            raise WeightsError(f"{shown(last / MODEL)} does not say which classes its head has.")
        _check_config(recipe, found.config, last / MODEL)
        config = replace(found.config, checkpoint_blocks=recipe.model.checkpoint_blocks)
        module, order = load_model(replace(found, config=config)).train(), found.order
    if recipe.model.frozen:
        freeze(module)
    drawn = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    module.to(device)
    model = _wrap_model(module, recipe.run, ranks)
    optimizer = torch.optim.AdamW(
        parameter_groups(module, o.weight_decay, o.layer_decay),
        lr=o.lr,
        betas=o.betas,
        eps=o.eps,
        fused=device.type == "cuda",
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision_of(recipe.run, device) == "fp16")
    average = None
    if o.ema is not None:
        average = checkpoint.place_tensors(drawn, dict(module.named_parameters()))
    if last is not None:
        kept = checkpoint.read_optim(last)
        if "weights" in kept:
            checkpoint.load_weights(module, kept["weights"])
        checkpoint.load_moments(module, optimizer, kept["moments"])
        checkpoint.load_scaler(scaler, kept["scaler"])
    return Trainee(module, model, order, optimizer, scaler, average)


def _check_config(recipe: Recipe, config: Config, where: Path) -> None:
    """WeightsError where a checkpoint is of another model than its run trains."""
    free = {"checkpoint_blocks"} | {
        "scratch": set(),
        "image": set(OF_THE_VIT),
        "video": {field.name for field in fields(Config)} - set(OF_TRAINING),
    }[recipe.start.kind]
    for name, value in asdict(recipe.model).items():
        theirs = getattr(config, name)
        if name not in free and theirs != value:
            raise WeightsError(
                f"{shown(where)} records a model with {name} = {theirs}, and the run's recipe has "
                f"{value}: it is of another run, or was changed.\n"
                "Remove its folder: the step before it counts then."
            )


def _wrap_model(module: UniFormerV2, run: Run, ranks: Ranks) -> nn.Module:
    """The model for the processes that there are; each block is compiled if the recipe says so."""
    blocks: list[nn.Module] = [*module.blocks, *module.global_blocks]
    if run.compile:
        for block in blocks:
            block.compile(dynamic=False)
    if ranks.ranks == 1:
        return module
    if run.sharding == "ddp":
        ids = [ranks.device.index] if ranks.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)
    # Parameters stay float32, and autocast narrows them: the numbers are DDP's.
    mesh = init_device_mesh(ranks.device.type, (ranks.ranks,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)  # changes its class, not its parameters' names
    return module


@contextlib.contextmanager
@torch.no_grad()
def average_in_place(trainee: Trainee) -> Iterator[None]:
    """Put the average of the weights in the place of the weights meanwhile, if there is one."""
    if trainee.average is None:
        yield
        return
    own = {name: p.detach().clone() for name, p in trainee.module.named_parameters()}
    _copy_into(trainee.module, trainee.average)
    try:
        yield
    finally:
        _copy_into(trainee.module, own)


@torch.no_grad()
def _copy_into(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(weights[name])
