"""One turn of a conversation: history, evidence, model and tools, citations, answer caches; shared by packs that talk."""
