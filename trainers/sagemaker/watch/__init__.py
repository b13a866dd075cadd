"""Following jobs until their results are in the store."""
