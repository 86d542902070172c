"""What a work directory holds: the status of every clip, and the dataset card.

In: the tables of all stages.
Out: counts per view and class (`read_status`), README.md for a hub (`write_card`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
