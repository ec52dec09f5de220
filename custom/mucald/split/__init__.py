"""The split-federated protocol, free of FLARE: messages, either side's segments, one process for both."""
