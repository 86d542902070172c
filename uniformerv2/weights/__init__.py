"""Weights in and out."""

from uniformerv2.weights.load import *  # noqa: F403
