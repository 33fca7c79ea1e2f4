"""Label files: text files that name line images and their texts. One module per form."""
