"""DICOM: read series, interpret their headers, write masks as DICOM SEG and reports as DICOM SR."""
