"""Lists of a view's clips for other trainers: MMAction2, SlowFast, VideoMAE, wids.

In: the manifest, sources.parquet, the index of the shards.
Out: one list file, with what its trainer has to be told.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
