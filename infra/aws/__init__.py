"""Parts of AWS: raw resources under components of our own."""
