"""A view for other trainers: lists for MMAction2, SlowFast, VideoMAE and wids, or a WebDataset.

In: the manifest, sources.parquet, the shards and their index.
Out: one list file, with what its trainer has to be told; `open_view` gives a pipeline of samples.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
