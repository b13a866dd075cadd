"""Loads and serves a saved model; this folder is copied into each, and needs nothing of this project."""
