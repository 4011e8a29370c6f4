"""Measurements of mined negatives: false-negative rates, calibration, sweeps, agreement of teachers."""
