"""Results written down elsewhere, such as notes and tables, become runs."""
