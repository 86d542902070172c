"""Where each clip of the manifest can be read: files, archive members, downloads.

In: the manifest, folders of videos, the ledger of downloads, the outcomes of shard runs.
Out: copies.parquet, every copy of each clip; sources.parquet, one row per clip with its status.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
