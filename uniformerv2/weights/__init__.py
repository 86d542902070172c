"""Weights of models: read, checked, converted, given to a model, written.

In: checkpoints of k710, of the reference or of image models.
Out: models, and checkpoints in the other format or with other heads.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
