"""UniFormerV2 (arXiv 2211.09552): the model, its loader and its trainer."""
