"""The nouns of the desk: frozen values and pure functions, no clock, no task, no file."""
