"""What a row is: the columns and rules of FOCUS 1.0-1.4 as data, validation, conversion."""
