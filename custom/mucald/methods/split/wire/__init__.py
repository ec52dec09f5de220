"""The messages of split learning and a site's half of the protocol."""
