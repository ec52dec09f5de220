"""The protocol of split learning: phases, fields, and how weights cross."""
