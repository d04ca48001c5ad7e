"""Self-contained HTML pages, which need no server: one layout, one style for figures and tables."""
