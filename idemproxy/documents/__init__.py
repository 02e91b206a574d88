"""Documents: a first configuration out of an OpenAPI description, and what a configuration means to the users of an API."""
