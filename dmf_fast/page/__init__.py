"""Pages of HTML that a browser shows without a server: one layout, one style for figures and tables."""
