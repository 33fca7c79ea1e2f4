# A first hour
# Somebody heard of the program, and tries what comes to mind. The environment is empty but for `pip install nordocr-cli`.
nordocr --version
nordocr | head -40
nordocr doctor
python -c "from PIL import Image; page = Image.open('$CLONE/samples/doc/dev_doc.tif').convert('L'); page.paste(255, (0, page.height // 6, page.width, page.height)); page.save('scan.tif', compression='tiff_lzw')" && nordocr read scan.tif
# In Python.
python -c "import nordocr; d = nordocr.read('scan.tif'); print(len(d.pages), 'pages,', len(d.lines), 'lines;', d.lines[0])"
# What else is there?
nordocr models list
nordocr profiles list
nordocr charset coverage nordic
# What a plain install cannot do says what it lacks.
#!expect 5
nordocr export nordocr-default -o model.onnx
#!expect 5
nordocr serve
# Mistakes.
#!expect 2
nordocr raed scan.tif
#!expect 2
nordocr read scan.tif --formt text
#!expect 2
nordocr read
#!expect 3
printf 'II*\0damaged' > damaged.tif; nordocr read damaged.tif
#!expect 2
nordocr eval nordocr-default scan.tif
