"""Lists and videos that show the whole way."""
