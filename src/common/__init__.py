"""What every other package uses: files, locks, devices, paths, messages, random streams."""
