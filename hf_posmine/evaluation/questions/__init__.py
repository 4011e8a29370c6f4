"""Questions for documents that have none: written by a language model, and kept only where they pass every gate."""
