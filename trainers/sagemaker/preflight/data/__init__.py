"""The data of a job, checked in S3 without downloading it."""
