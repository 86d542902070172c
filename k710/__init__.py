"""Rebuild Kinetics-710: from the published lists to a manifest, from videos to shards.

    import k710
    summary = k710.build_manifest("annotations", work="work")
    train = k710.load_view("k710/train", work="work")     # pandas.DataFrame, one row a clip
    k710.index_videos(["videos"], work="work")
    k710.make_shards(["k710/train", "k710/val"], work="work")

The public names stand in __init__.pyi; a module loads at the first use of one of its names, so that
`import k710` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
