"""The composition root: puts a node together and gives it a life, from proving everything to closing in order."""

from jobsd.daemon.serve import Ready, serve

__all__ = ["Ready", "serve"]
