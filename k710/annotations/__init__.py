"""Published lists -> checked rows."""
