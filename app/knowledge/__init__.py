"""What the agent may rest an answer on: chunk, embed, index, retrieve, ingest."""
