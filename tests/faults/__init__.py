"""Programs that are stopped at random moments, and what the store has afterwards: ``python -m tests.faults``."""
