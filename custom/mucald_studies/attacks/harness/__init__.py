"""What every attack is given, and how it is scored."""
