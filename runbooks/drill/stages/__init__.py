"""Pieces that rehearsals stand on: each starts what is real, and ends it."""
