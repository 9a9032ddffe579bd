"""What heads attend to: scores of all heads, and patterns as a panel."""
