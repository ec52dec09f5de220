"""Measures what the split costs: the wire, a step, a whole run, many sites, and the codec.

Above everything else in the package, FLARE included; nothing that trains needs it.
"""
