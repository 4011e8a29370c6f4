"""Figures of evaluations, and how they look."""
