"""Reference formulas in NumPy and SciPy: wavelengths, black bodies, line profiles."""
