"""Mixed traffic of raw packets against a real daemon, and the books that are kept of it."""
