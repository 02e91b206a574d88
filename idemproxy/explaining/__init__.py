"""What the proxy would make of a request, and why: asked of the parts that serve requests, and never executed or recorded."""
