"""The leaderboard: its runs, table, answer, checks and page."""
