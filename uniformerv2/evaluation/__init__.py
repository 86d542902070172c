"""Scores of clips, and what is counted of them."""
