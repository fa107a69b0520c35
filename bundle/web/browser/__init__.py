"""Python that runs in the browser, in Pyodide: `scripts/` as they are, on numpy in place of torch and MONAI."""
