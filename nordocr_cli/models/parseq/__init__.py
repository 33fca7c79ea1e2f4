"""PARSeq (Bautista and Atienza 2022): network, permutations, released weights."""
