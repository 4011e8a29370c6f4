"""The rules of sentence-transformers' ``mine_hard_negatives`` on this package's miner (:mod:`hf_posmine.compat`)."""
