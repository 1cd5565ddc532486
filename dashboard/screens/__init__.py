"""Pages of the dashboard, one per file. Each page opens with its question."""
