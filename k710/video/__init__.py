"""Video files: chosen frames out of them, and windows of them as MP4 files of their own.

In: files, or byte ranges of archives.
Out: frames (uint8 RGB), encoded clips, facts about a file.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
