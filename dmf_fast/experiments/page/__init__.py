"""The page of results: what a section of it says, how verdicts are reached, how figures look."""
