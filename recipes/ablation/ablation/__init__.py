"""Ablations: a grid of ways to mine, a student trained on each, and tables with significance."""
