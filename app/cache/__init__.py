"""Bytes kept for a while: in process, in Redis, and one call for many who ask at once."""
