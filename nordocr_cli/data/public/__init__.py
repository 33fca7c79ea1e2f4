"""Public data sets that line recognizers are trained and measured on, and how to get them."""
