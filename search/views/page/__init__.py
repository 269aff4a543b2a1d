"""The page of a finished study: one HTML file."""
