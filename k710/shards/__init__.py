"""Clips -> tars that a GPU can be fed from."""
