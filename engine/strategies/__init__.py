"""Strategies: the protocol and the built-in ones; pure functions of closed candles and their own state."""
