"""What the command line does: build a generator, infer stars, write tables and figures."""
