"""`nordocr synth`: rendered training lines."""
