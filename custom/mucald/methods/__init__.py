"""The families of methods; each is one folder."""
