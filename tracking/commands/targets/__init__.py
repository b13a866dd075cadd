"""Where ``copy`` writes: a database's own tables, or any store through MLflow."""
