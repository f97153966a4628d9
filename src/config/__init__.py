"""The typed form of params.yaml: one strict, frozen model for each section of the file."""
