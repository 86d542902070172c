"""Idempotent tasks, run on worker processes of this machine or of a Ray cluster.

In: a function and tasks.
Out: each task with its result, or with why its worker failed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
