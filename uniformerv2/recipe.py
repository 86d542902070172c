"""A recipe: all that decides what a run of training computes, as frozen dataclasses.

The defaults are the publication's for B/16 on K710 (slowfast/config/defaults.py, exp/k710 of the
reference); what it does not have is off. `recipe_files` has their TOML. Needs no PyTorch.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Literal, cast

from k710.errors import RecipeError, shown
from k710.labels.orders import DATASETS
from uniformerv2.config import Config
from uniformerv2.dataset.draws import Chances

__all__ = [
    "NAME",
    "Augment",
    "Data",
    "Evaluation",
    "Optim",
    "Precision",
    "Published",
    "Recipe",
    "Run",
    "Start",
]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")  # of a folder too: no path, no option
Precision = Literal["bf16", "fp16", "fp32"]
_VIEW = re.compile(r"[a-z0-9]+/[a-z0-9_]+")
_VIEWS = re.compile(r"[0-9]+x[0-9]+x[0-9]+")


@dataclass(frozen=True, slots=True)
class Start:
    """What the weights are before the first step."""

    kind: Literal["image", "video", "scratch"] = "image"
    of: str | None = None  # whose: an image ViT in words, or the recipe that made a video model
    head: Literal["mapped", "random"] = (
        "mapped"  # of a video model: its rows by class, or a new one
    )


@dataclass(frozen=True, slots=True)
class Data:
    """Which clips, and how many at a time."""

    train: str = "k710/train"
    val: str | None = "k710/val"
    frames: int = 8
    stride: int | None = None  # frames apart, all from one place; None: spread over the clip
    batch: int = 256  # clips of a step, on all GPUs together
    repetitions: int = 1  # draws of each clip, decoded once
    window_shards: int = 16


@dataclass(frozen=True, slots=True)
class Augment:
    """What may become of a training clip."""

    rand_augment: bool = True
    flip: float = 0.5
    area: tuple[float, ...] = (0.08, 1.0)  # of the box that is cut out, as a share of the frame
    aspect: tuple[float, ...] = (0.75, 1.3333)
    erase: float = 0.0
    antialias: bool = False
    colours: Literal["reference", "clip"] = "reference"  # mean and deviation; in tests too
    mixup: float = 0.0  # parameters of Beta distributions
    cutmix: float = 0.0


@dataclass(frozen=True, slots=True)
class Optim:
    """AdamW; learning rates are absolute, and those of the whole batch."""

    lr: float = 1e-5
    start_lr: float = 1e-6
    end_lr: float = 1e-6
    warmup_epochs: float = 5.0
    epochs: float = 55.0  # with those of the warm-up
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float = 20.0
    label_smoothing: float = 0.0
    layer_decay: float | None = None  # of the learning rate, from each layer to the one below
    ema: float | None = None  # share of the average that stays at each step
    wise: float | None = None  # share of the trained weights in the last ones; the rest: the start


@dataclass(frozen=True, slots=True)
class Run:
    """How it is computed. Only seed and precision change what comes out, but for rounding."""

    seed: int = 6666
    precision: Precision | None = None  # None: bf16 on CUDA, else fp32
    clips_per_gpu: int = 32  # at a time, at most: more are accumulated
    compile: bool = False
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    workers: int | None = None  # of each GPU; None: the cores that there are, shared out
    checkpoint_minutes: float = 15.0
    keep: int = 2  # checkpoints
    log_steps: int = 10  # between two looks at what the GPU has computed
    tensorboard: bool = False
    wandb: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the trained model is tested."""

    clips: int = 4
    crops: int = 3
    every_epochs: int | None = 1  # one clip, one crop of `data.val` while training; None: never


@dataclass(frozen=True, slots=True)
class Published:
    """What the publication reports for its own run, in percent."""

    top1: float
    views: str  # frames x crops x clips
    top5: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it. RecipeError where parts do not fit together."""

    name: str
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
        for what, is_right in _conditions(self):
            if not is_right:
                raise RecipeError(f"Recipe {shown(self.name)}: {what}.")

    @property
    def dataset(self) -> str:
        """Whose classes the head has: k710, k400, k600, k700."""
        return self.data.train.partition("/")[0]

    @property
    def chances(self) -> Chances:
        """What may be drawn for a training clip."""
        a = self.augment
        return Chances(
            with_ops=a.rand_augment,
            flip_probability=a.flip,
            area=cast(tuple[float, float], a.area),
            aspect=cast(tuple[float, float], a.aspect),
            erase_probability=a.erase,
        )


def _floats(part: Augment | Optim | Run | Published | None) -> Iterable[tuple[str, float]]:
    """Each float of a section: comparisons with what is not a number would go by unseen."""
    for one in () if part is None else fields(part):
        value = getattr(part, one.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                yield one.name, number


def _conditions(recipe: Recipe) -> Iterable[tuple[str, bool]]:
    d, a, o, r, e = recipe.data, recipe.augment, recipe.optim, recipe.run, recipe.eval
    name = "a name has letters, digits and _ + . - alone, and begins with none of the last three"
    yield name, bool(NAME.fullmatch(recipe.name))
    yield "status is one line", recipe.status.isprintable()
    of = recipe.start.of
    yield "start.of is one line, without quotes", of is None or (of.isprintable() and '"' not in of)
    for key, view in (("train", d.train), ("val", d.val)):
        yield f"data.{key} is a view like k710/train", view is None or bool(_VIEW.fullmatch(view))
    p = recipe.published
    yield "published.views is like 8x3x4", p is None or bool(_VIEWS.fullmatch(p.views))
    for section, part in (("augment", a), ("optim", o), ("run", r), ("published", p)):
        for key, value in _floats(part):
            yield f"{section}.{key} ({value}) must be finite", math.isfinite(value)
    known = ("k710", *DATASETS)
    yield f"data.train is of {', '.join(known)}", recipe.dataset in known
    for key, number in (
        ("data.frames", d.frames),
        ("data.stride", d.stride),
        ("data.batch", d.batch),
        ("data.repetitions", d.repetitions),
        ("data.window_shards", d.window_shards),
        ("run.clips_per_gpu", r.clips_per_gpu),
        ("run.keep", r.keep),
        ("run.log_steps", r.log_steps),
        ("eval.clips", e.clips),
        ("eval.every_epochs", e.every_epochs),
    ):
        yield f"{key} ({number}) must be above 0", number is None or number > 0
    yield f"run.workers ({r.workers}) must not be negative", r.workers is None or r.workers >= 0
    yield f"run.seed ({r.seed}) must be from 0 to below 2**63", 0 <= r.seed < 1 << 63
    yield "eval.crops must be 1 or 3", e.crops in (1, 3)
    for key, share in (
        ("augment.flip", a.flip),
        ("augment.erase", a.erase),
        ("optim.label_smoothing", o.label_smoothing),
        ("optim.layer_decay", o.layer_decay),
        ("optim.ema", o.ema),
        ("optim.wise", o.wise),
    ):
        yield f"{key} ({share}) must be from 0 to 1", share is None or 0 <= share <= 1
    area = len(a.area) == 2 and 0 < a.area[0] <= a.area[1] <= 1
    yield f"augment.area {a.area} must be two shares, the smaller first", area
    aspect = len(a.aspect) == 2 and 0 < a.aspect[0] <= a.aspect[1]
    yield f"augment.aspect {a.aspect} must be two ratios, the smaller first", aspect
    betas = len(o.betas) == 2 and all(0 <= beta < 1 for beta in o.betas)
    yield f"optim.betas {o.betas} must be two shares below 1", betas
    yield "augment.mixup and cutmix must not be negative", min(a.mixup, a.cutmix) >= 0
    rates = (o.lr, o.start_lr, o.end_lr, o.weight_decay)
    yield "learning rates and weight decay must not be negative", min(rates) >= 0
    yield "optim.eps and clip_norm must be above 0", min(o.eps, o.clip_norm) > 0
    epochs = f"optim.warmup_epochs ({o.warmup_epochs}) must be from 0 to below epochs ({o.epochs})"
    yield epochs, 0 <= o.warmup_epochs < o.epochs
    yield "run.checkpoint_minutes must be above 0", r.checkpoint_minutes > 0
    even = not (a.mixup or a.cutmix) or d.batch % 2 == 0
    yield "with mixup or cutmix data.batch must be even", even
