# Fine-tuning on one's own lines
# An engineer has cropped lines with their texts: images and a table. The environment has `nordocr-cli[train]`.
cp -r $CLONE/samples/train lines && head -120 $CLONE/samples/train/labels.tsv > lines/labels.tsv && head -2 lines/labels.tsv
# Before anything: do the labels fit, and how well are they read today?
nordocr prep lines/labels.tsv -o check.lmdb -p default && nordocr data stats check.lmdb
nordocr eval nordocr-default lines/labels.tsv
# The complete fine-tuning, kept short.
nordocr finetune lines/labels.tsv -o mine --minutes 1 --dry-run
nordocr finetune lines/labels.tsv -o mine --minutes 1
ls mine
# Labels that do not belong to their images are found before training.
python -c "t = open('lines/labels.tsv', encoding='utf-8').read().splitlines(); names = [r.split('\t')[0] for r in t]; texts = [r.split('\t', 1)[1] for r in t]; open('lines/shifted.tsv', 'w', encoding='utf-8').write(''.join(f'{n}\t{x}\n' for n, x in zip(names, texts[7:] + texts[:7])))"
#!expect 3
nordocr finetune lines/shifted.tsv -o wrong --minutes 1
