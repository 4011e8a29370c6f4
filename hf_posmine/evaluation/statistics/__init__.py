"""Statistical significance of differences between systems: paired tests, intervals, corrections."""
