"""What several adapters need: cleaning of foreign text, pauses between tries."""
