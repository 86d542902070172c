"""Clips, cut and encoded, packed into WebDataset shards.

In: the manifest, sources.parquet, copies.parquet and the video files.
Out: plan.parquet, shards/NNNNNN.tar with their tables, index.parquet, an outcome for each clip,
    tries for each copy that was opened for one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
