"""Small lists and videos that show the whole way, made on the spot.

In: nothing.
Out: a folder of annotation lists and of videos whose classes a small model can learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
