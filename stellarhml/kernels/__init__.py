"""The fast path: fused rendering of products of lines, its gradient, and the torch function around both."""
