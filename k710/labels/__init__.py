"""The 710 classes, in which order, and by which names."""

from k710.labels.orders import *  # noqa: F403
