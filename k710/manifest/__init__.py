"""Annotation rows become one manifest: deduplicated, leaks removed, every dropped row explained.

In: annotations.parquet (`build_manifest` has it written first).
Out: manifest, dropped and leakage.parquet; `load_view` and `explain` read them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
