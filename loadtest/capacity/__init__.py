"""What one replica of a phase carries, and what a request costs as things grow."""
