"""Words to embeddings: weights in brackets, chunks of 77 tokens, and a cache of what was encoded."""
