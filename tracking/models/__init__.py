"""Saved models: the MLflow flavor for Gluon networks and everything it writes and reads."""
