"""Families of small tasks, each of its own kind, on which searches are judged."""
