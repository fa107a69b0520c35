"""Read and write files: list scans and cases, decode NIfTI, NRRD, DICOM and images, write masks and JSON."""
