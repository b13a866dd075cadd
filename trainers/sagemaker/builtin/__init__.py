"""AWS's built-in image classification: its limits, its log, its model."""
