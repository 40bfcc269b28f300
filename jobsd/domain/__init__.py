"""The rules, pure: no input, no output, no clock of its own. Everything may import it; it imports nothing of jobsd."""
