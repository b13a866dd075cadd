"""One run from data to scores, on this machine."""
