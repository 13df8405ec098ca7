"""What retrieval is worth on collections with judgements."""
