"""Pure logic: no input or output, no clock, no engine."""
