"""Flow 1, inbound. Is this candle complete?

A strategy sees a candle only after its window has closed, at most once, and never because somebody changed it
afterwards: only `Added` leads to a decision, and only an added candle of the live feed may lead to an entry.
"""
