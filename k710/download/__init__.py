"""Clips that have no local copy, with yt-dlp."""
