"""Contents of files, kept centrally: what every blob store promises, the one in a folder, and tidying up."""
