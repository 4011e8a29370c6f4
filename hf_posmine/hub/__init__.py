"""Provenance: what is written beside every output, enough to repeat the mining."""
