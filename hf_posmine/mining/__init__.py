"""The miner: candidates of the teachers, selection, the columns it writes, and the record of how it was done."""
