"""Clips out of shards, in the order of an epoch, decoded: all without PyTorch.

In: the manifest, the index and the shards of a work directory.
Out: frames (uint8 RGB) of the clips of a view, with their K710 rows.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
