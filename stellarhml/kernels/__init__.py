"""Compiled kernels: products of lines and their derivatives, broadening, interpolation and linear algebra."""
