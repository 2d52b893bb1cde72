"""What all floors above share: the law of shapes, traces, handlers, checks."""
