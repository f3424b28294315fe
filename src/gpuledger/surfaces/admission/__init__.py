"""The admission webhook: one process that validates and mutates, over HTTPS, from memory."""
