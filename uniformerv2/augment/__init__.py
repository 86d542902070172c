"""Frames to the pixels that a model sees, in training and in tests, on the training device.

In: uint8 RGB frames (T, H, W, 3) and random draws.
Out: float tensors (C, T, H, W), normalised.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
