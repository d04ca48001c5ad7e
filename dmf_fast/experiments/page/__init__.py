"""The page of results: its sections, the rules for verdicts, and the papers."""
