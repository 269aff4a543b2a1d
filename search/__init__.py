"""What to try next, who runs it, what came out."""
