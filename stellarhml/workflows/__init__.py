"""The commands as Python functions: build a generator, infer stars, write tables and figures."""
