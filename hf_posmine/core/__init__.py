"""The arrays, protocols and settings that everything else is made of: filters, samplers, ensembles. Needs numpy only."""
