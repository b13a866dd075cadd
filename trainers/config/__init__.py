"""One run's settings, and studies of many runs."""

from trainers.config.config import Config

__all__ = ["Config"]
