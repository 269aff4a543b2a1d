"""Anybody's OneCycleLR: what torch applies, what is wrong with a call, a log or a loop."""
