"""The job that fills an embedding store (`job`)."""
