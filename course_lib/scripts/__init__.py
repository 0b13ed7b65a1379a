"""Scripts, exported from the notebooks."""
