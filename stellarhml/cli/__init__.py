"""The command `stellarhml`: arguments and text."""
