"""The names of the default teacher, apart from the code that needs torch."""

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED = "embedded"
