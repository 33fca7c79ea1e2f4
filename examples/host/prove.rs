//! Prove the host on the golden lines of an export: preprocessing against input.bin, the network
//! against logits.bin, decoding against the texts. DIR holds libonnxruntime.so and .so.1:
//!
//!     rustc --edition 2021 -O prove.rs -L DIR -l onnxruntime -C link-arg=-Wl,-rpath,DIR
//!     ./prove recognize_svtrv2_1024.onnx recognize_svtrv2_1024.golden
mod host;
mod onnxruntime;
use host::{batch, decode, preprocess, Geometry, STRIDE};
use onnxruntime::Network;
use std::{fs, path::Path, process::exit};

/// One line of golden.tsv.
struct Line {
    case: String,
    crop: String,
    height: usize,
    width: usize,
    confidence: f64,
    text: String,
}

fn floats(path: &Path) -> Vec<f32> {
    fs::read(path).unwrap().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "another number of values");
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, |most, off| if off <= most { most } else { off })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (model, golden) = (&arguments[1], Path::new(&arguments[2]));
    let dictionary = fs::read_to_string(golden.join("charset.txt")).unwrap();
    let characters: Vec<char> =
        dictionary.lines().map(|line| line.chars().next().unwrap()).collect();
    let table = fs::read_to_string(golden.join("golden.tsv")).unwrap();
    let head: Vec<&str> = table.lines().next().unwrap().split('\t').collect();
    let geometry =
        Geometry { corner: head[1] == "corner-bilinear", max_width: head[2].parse().unwrap() };
    let temperature: f64 = head[3].parse().unwrap();
    let lines: Vec<Line> = table
        .lines()
        .skip(2)
        .map(|row| {
            let cells: Vec<&str> = row.split('\t').collect();
            Line {
                case: cells[0].into(),
                crop: cells[1].into(),
                height: cells[2].parse().unwrap(),
                width: cells[3].parse().unwrap(),
                confidence: cells[4].parse().unwrap(),
                text: cells[5].into(),
            }
        })
        .collect();
    let network = Network::open(model);
    let mut wrong = 0;
    for case in lines.chunk_by(|a, b| a.case == b.case) {
        let crops: Vec<_> = case
            .iter()
            .map(|line| {
                preprocess(
                    &fs::read(golden.join(&line.crop)).unwrap(),
                    line.height,
                    line.width,
                    geometry,
                )
            })
            .collect();
        let (pixels, width) = batch(&crops);
        let mut input = floats(&golden.join(format!("{}.input.bin", case[0].case)));
        let expected = floats(&golden.join(format!("{}.logits.bin", case[0].case)));
        let logits = network.run(&mut input, case.len(), width, characters.len() + 1);
        let size = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
        let (input_off, logits_off) =
            (greatest_difference(&pixels, &input), greatest_difference(&logits, &expected));
        let mut right = input_off <= 1.01 / 127.5 && logits_off <= 1e-4 * size;
        for (n, line) in case.iter().enumerate() {
            let own = &logits[n * width / STRIDE * (characters.len() + 1)..];
            let (text, confidence) = decode(own, crops[n].1 / STRIDE, &characters, temperature);
            right &= text == line.text && (confidence - line.confidence).abs() < 1e-3;
        }
        wrong += usize::from(!right);
        println!(
            "{} {}: input {input_off:.5}, logits {logits_off:.6}",
            if right { "ok" } else { "WRONG" },
            case[0].case
        );
    }
    println!("{} lines, {wrong} cases wrong", lines.len());
    exit(i32::from(wrong > 0));
}
