"""Vendors on loopback: each enforces the shapes of the real one and answers a wrong request with its 4xx."""
