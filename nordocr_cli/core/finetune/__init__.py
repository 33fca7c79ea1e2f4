"""`nordocr finetune`: from labelled lines to a better recognizer, in resumable stages."""
