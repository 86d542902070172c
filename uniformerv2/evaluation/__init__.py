"""Scores of clips, and the predictions table that they go to.

In: a model and the clips of a view.
Out: predictions.parquet, accuracies per class, confusions.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
