"""One module a kind of stage: settings and context in, output folder and facts out."""
