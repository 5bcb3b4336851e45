"""Deliberate mistakes in the engine, one for each sentence that forbids one, and who notices them."""
