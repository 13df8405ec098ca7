"""The pages of the shell, one module each."""
