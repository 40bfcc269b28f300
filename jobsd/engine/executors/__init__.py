"""How each kind of job is executed: python, process, command, sql, http."""
