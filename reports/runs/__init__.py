"""Pages about one run or two."""
