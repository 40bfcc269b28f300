"""What tests stand on: the shared PostgreSQL, servers of their own, real daemons."""
