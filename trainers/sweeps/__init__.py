"""The range test as a measurement: sweeps, what their curves say, nothing left changed."""
