"""What instances are, what they cost, and what a job is likely to cost."""
