"""What a recipe costs: parameters, arithmetic, and estimates of memory and GPU-hours. No PyTorch.

Arithmetic is that of this implementation. The published figures count the keys and values of all
tokens in each global UniBlock, which are not computed here, and one query for all h heads, which
here look at the tokens themselves: for each, of M tokens C wide, they have 2 M C^2 - 2 (h - 1) M C
multiply-adds more. Norms, activations, biases and additions are left out, as is usual.
"""

import re
from dataclasses import dataclass

from uniformerv2.config import Config
from uniformerv2.recipe import Recipe

__all__ = [
    "CLIPS",
    "Cost",
    "cost_of",
    "forward_macs",
    "memory_bytes",
    "num_parameters",
    "peak_flops",
    "trained_parameters",
    "training_flops",
]

# Clips of the train lists: of K710 as published by VideoMAEv2, of the others as counted in 2021.
CLIPS = {"k710": 658_340, "k400": 219_782, "k600": 371_354, "k700": 544_823}
# FLOP/s, dense, of 16-bit floats: NVIDIA's data sheets, SXM boards.
_PEAKS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
_BOARD = re.compile(rf"\b({'|'.join(_PEAKS)})\b")  # an RTX A1000, a GH200, an A100X is another
_SLOWER = re.compile(r"\b(PCIe|NVL|MIG|GRID)\b", re.IGNORECASE)
_PUBLISHED_PEAK = _PEAKS["H100"]
# Measured with benchmarks/train_step.py on an H200: narrow models keep it less busy.
_MFU = {"narrow": 0.39, "wide": 0.46}
_WIDE = 1024
# Bytes that a step has for each token and channel: of a block, and of all else. They solve what
# was measured there, 32.2 GiB of B/16 with 64 clips of 8 frames and 42.7 GiB of L/14 with 24: two
# numbers of two runs, so that no error is known.
_BLOCK_BYTES, _OTHER_BYTES = 31.0, 50.0
# What a checkpointed block keeps of that. Not measured on a GPU: the tensors that autograd saves,
# counted on a CPU, are 0.2 of a block's in B/16 and L/14, and none in a frozen ViT.
_CHECKPOINTED = 0.2
_OF_A_WEIGHT = 16  # bytes: itself, its gradient, and AdamW's two moments, in float32


def num_parameters(config: Config) -> int:
    """The parameters of the model, buffers not among them."""
    return sum(_parts(config).values())


def trained_parameters(config: Config) -> int:
    """Those that have a gradient: of a frozen ViT the global branch and the head alone."""
    parts = _parts(config)
    return sum(parts.values()) - (parts["vit"] if config.frozen else 0)


def _parts(config: Config) -> dict[str, int]:
    C, p, num = config.width, config.patch, len(config.global_layers)
    grid, hidden = config.size // p, int(config.width * config.global_mlp_ratio)
    reduced = config.local_width or int(C // 1.5)
    local = 2 * C + (C + 1) * reduced + 4 * reduced + (reduced + 1) * C
    block = 12 * C * C + 9 * C + 4 * C  # four matrices, their biases, two norms
    block += {"none": 0, "single": 1, "double": 2}[config.local] * local
    block += 2 * C if config.layer_scale else 0
    block += ((2 * grid - 1) ** 2 + 3) * config.heads if config.relative_positions else 0
    taps = 3 if config.temporal_downsample else 1
    vit = 3 * taps * p * p * C + C + (1 + grid * grid) * C + (2 * C if config.norm_before else 0)
    look = 28 * C + 4 * C * C + 4 * C + 6 * C + 2 * hidden * C + hidden + C
    queries = 1 if config.fusion == "sequential" else num
    join = (num * C + 1) * C if config.fusion == "parallel" else 0
    balance = 0 if config.frozen else C
    head = 2 * C + (C + 1) * config.num_classes
    return {
        "vit": vit + config.depth * block,
        "global": queries * C + num * look + join + balance + head,
    }


def forward_macs(config: Config, frames: int) -> int:
    """Multiply-adds of one view, attention among them."""
    return sum(_macs(config, frames))


def _macs(config: Config, frames: int) -> tuple[int, int]:
    """Of the ViT, and of the global branch with the head."""
    C, grid = config.width, config.size // config.patch
    taps = 3 if config.temporal_downsample else 1
    T = frames // 2 if config.temporal_downsample else frames
    P = grid * grid
    L, M, num = 1 + P, T * (1 + P), len(config.global_layers)
    reduced = config.local_width or int(C // 1.5)
    local = T * P * (2 * C * reduced + 3 * reduced)
    block = M * 12 * C * C + 2 * M * L * C
    block += {"none": 0, "single": 1, "double": 2}[config.local] * local
    vit = T * P * 3 * taps * config.patch**2 * C + config.depth * block
    queries = range(1, num + 1) if config.fusion == "hierarchical_q" else [1] * num
    more = [n if config.fusion == "hierarchical_kv" and n else 0 for n in range(num)]
    branch = 0
    for Q, extra in zip(queries, more, strict=True):
        # DPE; q, q brought to the tokens, v, projection; scores and sums over all tokens; FFN.
        branch += 27 * T * P * C + Q * 4 * C * C + 2 * Q * config.heads * (M + extra) * C
        branch += Q * 2 * int(C * config.global_mlp_ratio) * C
    branch += num * C * C if config.fusion == "parallel" else 0
    return vit, branch + C * config.num_classes


def training_flops(config: Config, frames: int) -> int:
    """FLOPs of a step for one clip: 2 for a multiply-add, a backward pass costs two forward ones.

    A frozen ViT has no backward pass. What checkpointing computes again does not count.
    """
    vit, branch = _macs(config, frames)
    return 2 * (vit * (1 if config.frozen else 3) + branch * 3)


def peak_flops(gpu: str) -> float | None:
    """FLOP/s of dense 16-bit floats of a GPU by its name; None if it isn't known.

    A slice of a GPU, or a board that is slower than the one on the data sheet, isn't it.
    """
    found = _BOARD.search(gpu)
    return None if found is None or _SLOWER.search(gpu) else _PEAKS[found[1]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a recipe. Memory and hours are estimates, from what was measured of B/16 and L/14.

    Not covered: memory of local relation, of averaged weights, and of batches that wait.
    """

    parameters: int
    trained: int
    macs: int  # of one view
    memory_gib: float  # of one GPU, with `run.clips_per_gpu` clips at a time
    gpu_hours: float | None  # of H100s, on the published lists; None of others


def cost_of(recipe: Recipe) -> Cost:
    """What training by a recipe takes."""
    config, data = recipe.model, recipe.data
    hours = None
    if recipe.dataset in CLIPS:
        mfu = _MFU["wide" if config.width >= _WIDE else "narrow"]
        flops = training_flops(config, data.frames) * data.repetitions
        clips = CLIPS[recipe.dataset] * recipe.optim.epochs
        hours = clips * flops / (_PUBLISHED_PEAK * mfu) / 3600
    return Cost(
        num_parameters(config),
        trained_parameters(config),
        forward_macs(config, data.frames),
        memory_bytes(recipe) / 2**30,
        hours,
    )


def memory_bytes(recipe: Recipe, ranks: int = 1) -> float:
    """What training takes of each of so many GPUs, of which `run.sharding` may make one."""
    config, data = recipe.model, recipe.data
    T = data.frames // 2 if config.temporal_downsample else data.frames
    tokens = T * (1 + (config.size // config.patch) ** 2)
    checkpointed = min(config.checkpoint_blocks, config.depth)
    # Checkpointed blocks are computed again one by one: at least one is there as a whole.
    blocks = max(config.depth - checkpointed, 1) + _CHECKPOINTED * checkpointed
    kept = _OTHER_BYTES + (0 if config.frozen else blocks * _BLOCK_BYTES)
    # Draws of a clip stay together, and so do pairs that are mixed.
    together = data.repetitions * (2 if recipe.augment.is_mixed else 1)
    clips = max(min(recipe.run.clips_per_gpu, data.batch * data.repetitions), together)
    activations = clips * tokens * config.width * kept
    trained = trained_parameters(config)
    weights = trained * _OF_A_WEIGHT + (num_parameters(config) - trained) * 4
    return activations + weights / (ranks if recipe.run.sharding == "fsdp2" else 1)
