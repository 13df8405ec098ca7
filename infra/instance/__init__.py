"""What the PoC's one machine runs: files as they lie on it, and how they get there."""
