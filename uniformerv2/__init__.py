"""UniFormerV2 (arXiv 2211.09552): the model, its weights, a loader for shards, training and tests.

    import uniformerv2
    view = uniformerv2.read_view("work", "k400/train")
    recipe = uniformerv2.read_recipe("k400+k710_b16_f8x224")
    uniformerv2.train_model(recipe, work="work", run="first")

The public names stand in __init__.pyi; a module loads at the first use of one of its names. What
needs no PyTorch (`dataset`, recipes) works without it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
