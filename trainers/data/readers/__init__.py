"""One reader for each form in which data sets are kept."""
