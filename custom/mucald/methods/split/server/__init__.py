"""The server's half: networks per site, objective, aggregation."""
