"""What datasets are made of, whatever their domain: tables, splits, checks of labels, rows that are read when needed.

Nothing here knows a domain; a plugin's datasets use what they need of it.
"""
