"""`idemproxy demo`: the main job, shown on a sample payments API. Nothing of the product imports this."""
