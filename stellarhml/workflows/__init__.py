"""What the commands do, as functions to call from Python: build a generator, infer stars, write tables and figures."""
