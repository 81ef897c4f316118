"""The judgement on incoming operations, inside one write transaction."""
