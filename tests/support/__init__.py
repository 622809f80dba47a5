"""Small real parts that tests are made of."""
