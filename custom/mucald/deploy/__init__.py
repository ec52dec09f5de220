"""Kits, checks, sessions and job folders: all that provisioned federations need."""
