"""Hand predictions to other systems: DICOM files to an archive over DICOMweb, and reports as FHIR R5."""
