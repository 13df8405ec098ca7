"""What answering by meaning is worth, and what it gets wrong, on questions whose intent is known."""
