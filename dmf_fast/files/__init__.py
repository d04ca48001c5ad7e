"""Files that are there whole or not at all: checkpoints, atomic files and folders, locks."""
