"""`nordocr recipe`: the stages of a project, from data to a promoted model, as one command."""
