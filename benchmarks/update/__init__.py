"""The update step against the chains of torch calls that compute the same numbers: `python -m core bench update`.

Every contender is a file with `build(case, parameters, starts)`, which returns what takes one step (`Built`).
"""
