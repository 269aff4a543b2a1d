"""Who holds a run: claims, leases, heartbeats and the rows that they write."""
