"""Studies of MuCALD-FLARE for researchers: attacks, frontier, discovery, benchmarks, reports."""
