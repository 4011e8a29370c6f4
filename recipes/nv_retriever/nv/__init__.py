"""What the numbered scripts share: the sets, the teacher, and what a step costs."""
