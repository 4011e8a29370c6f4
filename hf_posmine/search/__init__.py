"""The best k documents below a ceiling."""
