"""Language modelling: byte-level BPE, a small decoder-only transformer, and text of Python's own library."""
