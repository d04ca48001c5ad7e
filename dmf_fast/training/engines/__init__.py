"""The engines that make the steps of a run."""
