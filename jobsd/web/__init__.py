"""The HTTP side: probes, metrics, the API. Renders what `operations` answers."""
