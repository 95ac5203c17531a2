"""The six stages, in the order of a run: choose, preprocess, modify, fine_tune, evaluate, seal.

Each is one function, from the context and the values of the stages before to its own; nothing reaches back.
"""
