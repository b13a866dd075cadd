"""What would go wrong with a job, found before it costs money."""
