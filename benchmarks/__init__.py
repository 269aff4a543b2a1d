"""Measurements of the product on real data: recorded by one script, replayed by others."""
