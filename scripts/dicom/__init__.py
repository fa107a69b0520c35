"""DICOM: read series, tell what their headers say, write masks as DICOM SEG and reports as DICOM SR."""
