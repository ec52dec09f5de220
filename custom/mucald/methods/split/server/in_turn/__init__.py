"""Sites that train one after the other on one set of networks (SplitFed V2)."""
