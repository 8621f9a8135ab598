"""Studies from the archive, and results back to it. The libraries of DICOM networks load only where they are used."""
