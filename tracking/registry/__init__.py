"""Registered models: which run is the best candidate, and who holds the alias."""
