"""Mined datasets and models on the Hub: pushed with record and card, read back, mined again and verified."""
