"""Adapters: one folder per broker, with the same furniture in each."""
