"""Standard errors of accuracies and of paired differences. Numbers in, numbers out: no files, no tables, no torch."""
