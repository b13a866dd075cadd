"""The sub-commands of ``python -m tracking``, one file each."""
