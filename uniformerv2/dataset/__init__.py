"""Clips out of shards, without PyTorch."""
