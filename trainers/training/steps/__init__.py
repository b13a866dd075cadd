"""What one step of training changes, and what is kept of it."""
