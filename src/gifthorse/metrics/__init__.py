"""Pure functions: rates with intervals, outlier statistics and their nulls."""
