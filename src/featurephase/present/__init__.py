"""Tables, figures and pages: results made visible. Algorithms never import from here at module level."""
