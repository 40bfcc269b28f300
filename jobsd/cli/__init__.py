"""The command line, one file a noun. Renders what the API answers; heavy imports stay inside the commands."""
