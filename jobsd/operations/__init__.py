"""What a person may do and see: the rules, one file a noun. HTTP, CLI and signals only call it."""
