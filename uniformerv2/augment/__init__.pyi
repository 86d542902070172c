from .colours import COLOURS as COLOURS
from .colours import MEAN as MEAN
from .colours import STD as STD
from .colours import Colours as Colours
from .mixup import Mixing as Mixing
from .transforms import evaluation_clip as evaluation_clip
from .transforms import training_batch as training_batch
from .transforms import training_clip as training_clip
