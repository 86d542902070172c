"""Published annotation lists, fetched and checked: the first step of the data.

In: archives on the publishers' servers, or lists in a folder, in any spelling that was published.
Out: annotations.parquet: checked rows, each with its dataset, split, id, window, K710 class.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
