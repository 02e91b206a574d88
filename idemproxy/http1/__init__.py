"""HTTP/1.1, sans-IO and role-neutral: heads, framing and hop-by-hop fields, for both sides of the proxy."""
