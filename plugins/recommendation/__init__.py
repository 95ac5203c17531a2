"""Recommendation: which module a Python file will import next, a linear item-item base, trivial contenders."""
