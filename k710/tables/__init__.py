"""Tables on disk, and their sidecars."""
