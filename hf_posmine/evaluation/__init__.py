"""What a model is worth: retrieval per query, second-stage tasks, and what may be claimed of a difference."""
