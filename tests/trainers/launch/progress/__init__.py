"""Tests of trainers/launch/progress."""
