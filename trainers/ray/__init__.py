"""Runs as jobs of a Ray cluster, by Ray's Jobs API over HTTP; this machine needs no Ray."""
