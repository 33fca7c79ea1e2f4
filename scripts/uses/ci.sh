# In continuous integration
# A pipeline prepares lines, trains a step, holds a gate and exports; every step must fail loudly.
nordocr doctor --require train
nordocr prep $CLONE/samples/lines/manifest.jsonl -o lines.lmdb -p default --val-split 0.3
nordocr train -p default --train lines.lmdb --val lines_val.lmdb --load nordocr-default-ext --run-dir runs/ci --max-steps 2 --batch-size 4 --device cpu
nordocr eval nordocr-default-ext lines_val.lmdb -o result --fail-if 'cer>20%'
# A gate that is missed ends the job with exit code 4, and says by how much.
#!expect 4
nordocr eval nordocr-default-ext lines_val.lmdb --fail-if 'cer>0%' --json | tail -6; exit ${PIPESTATUS[0]}
nordocr export nordocr-default -o model.onnx && nordocr contract verify nordocr-default model.onnx --json
nordocr build-engine --arch sm86,sm120 model.onnx --dry-run --json | head -20
# A failure is JSON on stdout too.
#!expect 2
nordocr eval nordocr-default no-such.lmdb --json
