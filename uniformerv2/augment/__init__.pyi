from .mixup import Mixing as Mixing
from .transforms import COLOURS as COLOURS
from .transforms import MEAN as MEAN
from .transforms import STD as STD
from .transforms import Colours as Colours
from .transforms import evaluation_clip as evaluation_clip
from .transforms import training_batch as training_batch
from .transforms import training_clip as training_clip
