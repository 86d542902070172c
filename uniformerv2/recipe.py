"""A recipe: all that decides what a run of training computes, as frozen dataclasses.

The defaults are the publication's for B/16 on K710 (slowfast/config/defaults.py, exp/k710 of the
reference); what it does not have is off. `recipe_toml` reads and writes them. Needs no PyTorch.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from k710.errors import shown
from uniformerv2.config import Config, Precision
from uniformerv2.dataset.draws import Chances
from uniformerv2.field_types import Above0, Checked, Count, From0, Rate, Share

__all__ = [
    "NUM_CLASSES",
    "Augment",
    "Data",
    "Evaluation",
    "Optim",
    "Precision",
    "Published",
    "Recipe",
    "Run",
    "Start",
    "list_differences",
]

NUM_CLASSES = {"k710": 710, "k400": 400, "k600": 600, "k700": 700}
_DATASETS = ", ".join(NUM_CLASSES)
_TrainView = Annotated[
    str,
    Meta(
        pattern=rf"^({'|'.join(NUM_CLASSES)})/[a-z0-9_]+\Z",
        description=f"a view of {_DATASETS}, like k710/train",
    ),
]
_View = Annotated[str, Meta(pattern=r"^[a-z0-9]+/[a-z0-9_]+\Z", description="a view like k710/val")]
_Betas = Annotated[tuple[Rate, Rate], Meta(description="two shares below 1")]
_Seed = Annotated[
    int, Meta(ge=0, le=(1 << 63) - 1, description="a whole number from 0 to below 2**63")
]
_Workers = Annotated[int, Meta(ge=0, le=1024, description="a whole number from 0 to 1,024")]
# Limits lie far above any use: what anyone wrote into a file shall not ask for all memory.
_Clips = Annotated[
    int, Meta(ge=1, le=1 << 20, description="a whole number above 0, up to 1,048,576")
]
_AtATime = Annotated[int, Meta(ge=1, le=4096, description="a whole number above 0, up to 4,096")]
_Views = Annotated[str, Meta(pattern=r"^[0-9]+x[0-9]+x[0-9]+\Z", description="like 8x3x4")]
# The name of a run's folder too: no path, and no option of a command.
_Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_+.-]*\Z",
        description="letters, digits and _ + . -, and begin with none of the last three",
    ),
]


@dataclass(frozen=True, slots=True)
class Start(Checked):
    """What the weights are before the first step."""

    kind: Literal["image", "video", "scratch"] = "image"
    of: str | None = None  # whose: an image ViT in words, or the recipe that made a video model
    # Of a video model: "mapped" keeps the rows of its classes, "random" draws a new head.
    head: Literal["mapped", "random"] = "mapped"

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.of is not None and (not self.of.isprintable() or '"' in self.of):
            raise ValueError(f"of ({shown(self.of)}) must be one line without quotes")


@dataclass(frozen=True, slots=True)
class Data(Checked):
    """Which clips, and how many at a time."""

    train: _TrainView = "k710/train"
    val: _View | None = "k710/val"
    frames: _Clips = 8
    stride: Count | None = None  # frames apart, all from one place; None: spread over the clip
    batch: _Clips = 256  # clips of a step, on all GPUs together
    repetitions: _AtATime = 1  # draws of each clip, decoded once
    window_shards: Count = 16


@dataclass(frozen=True, slots=True)
class Augment(Chances):
    """What may become of a training clip: what is drawn for it, and what is not."""

    antialias: bool = False
    colours: Literal["reference", "clip"] = "reference"  # mean and deviation; in tests too
    mixup: From0 = 0.0  # parameters of Beta distributions
    cutmix: From0 = 0.0

    @property
    def is_mixed(self) -> bool:
        """Whether clips are mixed in pairs."""
        return bool(self.mixup or self.cutmix)


@dataclass(frozen=True, slots=True)
class Optim(Checked):
    """AdamW; learning rates are absolute, and those of the whole batch."""

    lr: From0 = 1e-5
    start_lr: From0 = 1e-6
    end_lr: From0 = 1e-6
    warmup_epochs: From0 = 5.0
    epochs: Above0 = 55.0  # with those of the warm-up
    weight_decay: From0 = 0.05
    betas: _Betas = (0.9, 0.999)
    eps: Above0 = 1e-8
    clip_norm: Above0 = 20.0
    label_smoothing: Share = 0.0
    layer_decay: Share | None = None  # of the learning rate, from each layer to the one below
    ema: Share | None = None  # share of the average that stays at each step
    wise: Share | None = None  # share of the trained weights in the last ones; the rest: the start

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be below epochs ({self.epochs})"
            )


@dataclass(frozen=True, slots=True)
class Run(Checked):
    """How it is computed. Only seed and precision change what comes out, but for rounding.

    And `clips_per_gpu`, where the model has dropout or BatchNorm (`Config.depends_on_parts`).
    """

    seed: _Seed = 6666
    precision: Precision | None = None  # None: bf16 on CUDA, else fp32
    clips_per_gpu: _AtATime = 32  # at a time, at most: more are accumulated
    compile: bool = False
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    workers: _Workers | None = None  # of each GPU; None: the cores that there are, shared out
    checkpoint_minutes: Above0 = 15.0
    keep: Count = 2  # checkpoints
    log_steps: Count = 10  # between two looks at what the GPU has computed
    tensorboard: bool = False
    wandb: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation(Checked):
    """How the trained model is tested."""

    clips: _AtATime = 4
    crops: Literal[1, 3] = 3
    every_epochs: Count | None = 1  # one clip, one crop of `data.val` while training; None: never


@dataclass(frozen=True, slots=True)
class Published(Checked):
    """What the publication reports for its own run, in percent."""

    top1: From0
    views: _Views  # frames x crops x clips
    top5: From0 | None = None


@dataclass(frozen=True, slots=True)
class Recipe(Checked):
    """All of it. ValueError where parts do not fit together."""

    name: _Name
    arch: str = "b16"  # which of the published sizes `model` departs from
    model: Config = field(default_factory=Config)
    start: Start = Start()
    data: Data = Data()
    augment: Augment = Augment()
    optim: Optim = Optim()
    run: Run = Run()
    eval: Evaluation = Evaluation()
    published: Published | None = None
    status: str = "not run here"  # or "measured", and what came out

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if not self.status.isprintable():
            raise ValueError(f"status ({shown(self.status)}) must be one line")
        if self.augment.is_mixed and self.data.batch % 2:
            raise ValueError(f"data.batch ({self.data.batch}) must be even with mixup or cutmix")

    @property
    def dataset(self) -> str:
        """Whose classes the head has: k710, k400, k600, k700."""
        return self.data.train.partition("/")[0]


_FREE = {  # they change nothing that comes out, but for rounding
    "model.num_classes",  # those of `data.train`
    "model.checkpoint_blocks",
    "data.val",  # is looked at alone
    "run.compile",
    "run.sharding",
    "run.workers",
    "run.checkpoint_minutes",
    "run.keep",
    "run.log_steps",
    "run.tensorboard",
    "run.wandb",
}


def list_differences(mine: Recipe, other: Recipe) -> list[str]:
    """Where they would train another model: `key: value, was value` lines; none if nowhere."""
    lines = []
    for section in ("model", "start", "data", "augment", "optim", "run"):
        here, there = asdict(getattr(mine, section)), asdict(getattr(other, section))
        for key, value in here.items():
            if value != there[key] and f"{section}.{key}" not in _FREE:
                lines.append(f"{section}.{key}: {value}, was {there[key]}")
    return lines
