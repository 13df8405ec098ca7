"""Faults that are made on purpose: real processes, killed by their ids or cut off by a proxy, and what was promised."""
