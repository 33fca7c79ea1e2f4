# Reading in an office
# A clerk has scans and wants text that can be searched. The environment is empty but for `pip install nordocr-cli`.
nordocr doctor --require read
# The first page of a scanned annual report, of which the top sixth is printed, as text.
python -c "from PIL import Image; page = Image.open('$CLONE/samples/doc/dev_doc.tif').convert('L'); page.paste(255, (0, page.height // 6, page.width, page.height)); page.save('annual-report.tif', compression='tiff_lzw')" && nordocr read annual-report.tif
# The same as a PDF that can be searched.
nordocr read annual-report.tif -o annual-report.pdf && ls -l annual-report.pdf
# A folder of documents: PDF, TIFF, a page that was scanned on its side, and a file that is no document.
mkdir inbox && cp annual-report.pdf annual-report.tif inbox && python -c "from PIL import Image; Image.open('annual-report.tif').rotate(90, expand=True).save('inbox/turned.png')" && echo "not a picture" > inbox/notes.png
#!expect 3
nordocr watch inbox texts --once --format text
# One file of a folder that cannot be read is named, and the others are read.
ls texts && head -3 texts/turned*
# Which lines should a person look at? The JSON has a confidence for each.
nordocr read annual-report.tif --json | python -c "import json, sys; lines = [l for p in json.load(sys.stdin)['pages'] for l in p['lines']]; print(len(lines), 'lines;', *sorted((round(l['confidence'], 2), l['text']) for l in lines)[:3], sep='\n')"
# A password that is missing, a path that is wrong, a format that does not exist.
#!expect 2
nordocr read anual-report.tif
#!expect 2
nordocr read annual-report.tif --format docx
