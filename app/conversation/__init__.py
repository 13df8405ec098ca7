"""One turn of a conversation: history, evidence, model and tools, citations, caches; for packs that talk."""
