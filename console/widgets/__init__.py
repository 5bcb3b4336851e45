"""What screens are made of: line-drawn widgets over pure functions that return spans."""
