"""Documents, known positives and the columns of a user's dataset: everything that comes in."""
