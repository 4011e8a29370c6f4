"""Forty tasks, their files and their graders."""
