"""Decoding, sizing, augmenting and digesting pictures."""
