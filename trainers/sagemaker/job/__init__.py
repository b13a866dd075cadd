"""One training job: its request, its launch, its record."""
