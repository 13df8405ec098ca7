"""The chat agent: bots that answer from their documents, with citations."""
