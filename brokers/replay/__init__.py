"""Recorded ticks or candles as a feed that drives the desk's clock.

open_tape(path) --Tape--> ReplaySource --advance--> TapeClock
                               |--tick--> the exchange (before), then sinks
                               +--candle--> candle sinks (a recording of candles)
"""
