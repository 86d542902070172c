"""Is this machine ready? Packages, cores, memory, GPU, video codecs, the work directory.

In: the machine.
Out: checks, each with what mends it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
