"""Turn tracked runs into pages people trust; ``python -m reports`` is the door."""
