"""Files in and out: find scans and cases, decode them (NIfTI, DICOM, pictures), write masks, JSON, DICOM SEG and SR."""
