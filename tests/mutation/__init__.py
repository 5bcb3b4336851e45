"""Small changes of the program, by a library's operators and drawn by a seed, against the tests that reach them."""
