"""The report of `dcae eval sr`."""
