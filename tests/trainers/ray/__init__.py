"""Tests of trainers.ray."""
