"""Images in memory: where they come from, decoded once and cached."""
