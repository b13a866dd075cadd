"""Programs that are stopped at random moments, and what is found in the store afterwards: ``python -m tests.faults``."""
