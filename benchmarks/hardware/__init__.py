"""What the work asks of a machine: operations and bytes, counted, this machine's peaks, a GPU's, and the cost."""
