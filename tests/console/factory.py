"""The fixed desks that the console's tests share with the pictures."""

from screenshots.story import StillClient, blocked_desk, busy_desk, incomplete_desk

__all__ = ["StillClient", "blocked_desk", "busy_desk", "incomplete_desk"]
