"""Flow 5, aggregation. What is the total risk now, and do I have all of it?

The portfolio server alone declares the aggregate, from what traders report of themselves; while one of them is
missing there is no total, only a floor, and no entry leaves anywhere. Exits never ask here.
"""
