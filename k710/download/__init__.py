"""Clips that have no local copy, downloaded with yt-dlp.

In: the manifest and sources.parquet.
Out: videos in downloads/, a line in ledger/ for each attempt, sources.parquet brought up to date.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
