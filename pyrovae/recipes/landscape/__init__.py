"""The landscape: model families side by side, each with a log p(x) and what it is worth."""
