"""Read and write files: list scans and cases, decode NIfTI, DICOM and images, write masks, JSON, DICOM SEG and SR."""
