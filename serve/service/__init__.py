"""The service `dcae serve`: coding over HTTP, by worker processes."""
