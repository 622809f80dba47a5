"""Storage: records and artefacts on disk, their checksums, and the states of a plan's cells."""
