"""Telling the world: logs, metrics, channels, the service manager. Told by events; decides nothing."""
