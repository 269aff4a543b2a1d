"""How one run is trained: knows torch, nothing of search or SQL."""
