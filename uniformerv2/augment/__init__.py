"""Augmentation in batches on the training device."""

from uniformerv2.augment.transforms import *  # noqa: F403
