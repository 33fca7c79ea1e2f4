# Hosting in Rust
# A team serves the recognizer from Rust and wants to know that both compute the same.
nordocr export nordocr-default -o recognize.onnx --golden 8
nordocr contract show recognize.onnx | head -20
nordocr contract verify nordocr-default recognize.onnx
# What the pipeline's configuration must say for this model, and whether it does.
nordocr consumer config recognize.onnx --arch sm120 -o config.json && cat config.json
nordocr consumer check config.json recognize.onnx
# A wrong value is named.
sed 's/"recognize_max_input_width": [0-9]*/"recognize_max_input_width": 64/' config.json > wrong.json
#!expect 3
nordocr consumer check wrong.json recognize.onnx
# The charset as the host compiles it, locked in CI.
nordocr charset emit nordic -o charset.txt && nordocr charset lock nordic -o charset.lock.json && nordocr charset lock --check charset.lock.json --file charset.txt --file recognize.onnx
# The host in Rust proves itself on the golden lines, without this package and without crates. It needs ONNX Runtime's library.
mkdir lib && ln -s "$(python -c 'import onnxruntime, pathlib; print(next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")))')" lib/libonnxruntime.so && ln -s libonnxruntime.so lib/libonnxruntime.so.1
rustc --edition 2021 -O $CLONE/examples/host/prove.rs -L lib -l onnxruntime -C link-arg=-Wl,-rpath,$PWD/lib -o prove
ls recognize.golden | head -6; ./prove recognize.onnx recognize.golden
# The same proof fails when the host computes something else, here with a wrong expected text.
cp -r recognize.golden wrong.golden && sed -i '3s/\(.\)$/\1x/' wrong.golden/golden.tsv
#!expect 1
./prove recognize.onnx wrong.golden 2>&1
