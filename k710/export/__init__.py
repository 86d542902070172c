"""Lists for other trainers."""
