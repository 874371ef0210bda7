"""What a user asks, one file a verb: each composes the rooms below into a result."""
