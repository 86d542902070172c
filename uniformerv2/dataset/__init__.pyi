from .clips import ViewIndex as ViewIndex, read_view as read_view
from .decode import Reading as Reading
from .draws import Chances as Chances
from .frames import (
    Sampling as Sampling,
    train_bounds as train_bounds,
    train_frames as train_frames,
    view_frames as view_frames,
)
from .sampler import EpochOrder as EpochOrder, Shuffle as Shuffle
from .shard_reader import ShardReader as ShardReader
from .workers import shorten_openmp_spin as shorten_openmp_spin
