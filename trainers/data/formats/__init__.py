"""Binary formats of pictures and records, byte by byte."""
