"""Sextant's engine: five flows that each answer one question about who to believe."""
