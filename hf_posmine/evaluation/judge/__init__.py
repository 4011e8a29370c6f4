"""A language model's second opinion on mined negatives, validated and cached."""
