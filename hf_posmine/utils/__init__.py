"""Files, memory, threads, HTTP, progress and digests: nothing here knows about mining."""
