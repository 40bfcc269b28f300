"""Every query of schema `jobsd`, a file a noun. Nobody else speaks to PostgreSQL."""
