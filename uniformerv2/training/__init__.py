"""What a training run is made of: first weights, optimiser, checkpoints, log, metrics.

In: a recipe, a model, batches.
Out: step directories and log.jsonl in runs/<name>/; `uniformerv2.train` has the loop.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
