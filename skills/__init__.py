"""The skill of this package for coding assistants, and tasks that it is measured by."""
