"""Training on the data of all sites in one place."""
