"""The 710 classes: their rows in checkpoints, each dataset's class orders, class files.

In: manifests/labels.csv and aliases.csv.
Out: names, rows, head maps; the K710 row of any spelling.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
