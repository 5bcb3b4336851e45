"""The Textual skin and the command line."""
