"""One job per subcommand, under the same names: a plain function in, a frozen result out."""
