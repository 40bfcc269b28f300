"""The documentation, and the small programs that write what of it comes from the code: `make docs`."""
