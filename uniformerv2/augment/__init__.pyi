from .colours import COLOURS as COLOURS, MEAN as MEAN, STD as STD, Colours as Colours
from .mixup import Mixing as Mixing
from .transforms import (
    evaluation_clip as evaluation_clip,
    training_batch as training_batch,
    training_clip as training_clip,
)
