//! A host of an exported recognizer in Rust, without crates: crop to network input, and logits to
//! text. onnxruntime.rs runs the network.
//!
//! docs/contract.md says what each step must compute; prove.rs compares this file with the golden
//! lines of an export.

pub const HEIGHT: usize = 32; // px of a line
pub const STRIDE: usize = 4; // px of a frame
const WHITE: f32 = 1.0; // 255 / 127.5 - 1

/// What differs between models: the widest line in pixels, and the resampler's origin.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub max_width: usize,
    pub corner: bool, // corner-bilinear, as the pipeline has it; else linear, by pixel centres
}

/// Width at which a crop is read: round(width * 32 / height), down to a multiple of 4, 4 to max.
fn line_width(height: usize, width: usize, max_width: usize) -> usize {
    let rounded = (2 * width * HEIGHT + height) / (2 * height);
    (rounded / STRIDE * STRIDE).clamp(STRIDE, max_width)
}

/// Where a target pixel lies in the source: lower pixel, upper pixel, share of the upper one.
fn position(target: usize, size: usize, new_size: usize, corner: bool) -> (usize, usize, f64) {
    let scale = size as f64 / new_size as f64;
    let at = if corner { target as f64 * scale } else { (target as f64 + 0.5) * scale - 0.5 };
    let at = at.clamp(0.0, (size - 1) as f64);
    let low = at as usize;
    (low, (low + 1).min(size - 1), at - low as f64)
}

/// Scale an RGB crop (h, w, 3) bilinearly and normalize it: (3, 32, new width), -1 to 1.
pub fn preprocess(
    crop: &[u8],
    height: usize,
    width: usize,
    geometry: Geometry,
) -> (Vec<f32>, usize) {
    let new_width = line_width(height, width, geometry.max_width);
    let mut line = vec![0f32; 3 * HEIGHT * new_width];
    for y in 0..HEIGHT {
        let (top, bottom, dy) = position(y, height, HEIGHT, geometry.corner);
        for x in 0..new_width {
            let (left, right, dx) = position(x, width, new_width, geometry.corner);
            for channel in 0..3 {
                let pixel =
                    |row: usize, column: usize| crop[(row * width + column) * 3 + channel] as f64;
                let upper = pixel(top, left) + (pixel(top, right) - pixel(top, left)) * dx;
                let lower = pixel(bottom, left) + (pixel(bottom, right) - pixel(bottom, left)) * dx;
                let value = (upper + (lower - upper) * dy + 0.5).floor();
                line[(channel * HEIGHT + y) * new_width + x] = (value / 127.5 - 1.0) as f32;
            }
        }
    }
    (line, new_width)
}

/// Put lines next to each other in one batch (N, 3, 32, W), padded on the right with white.
pub fn batch(lines: &[(Vec<f32>, usize)]) -> (Vec<f32>, usize) {
    let width = lines.iter().map(|line| line.1).max().unwrap();
    let mut pixels = vec![WHITE; lines.len() * 3 * HEIGHT * width];
    for (n, (line, own)) in lines.iter().enumerate() {
        for row in 0..3 * HEIGHT {
            let start = (n * 3 * HEIGHT + row) * width;
            pixels[start..start + own].copy_from_slice(&line[row * own..(row + 1) * own]);
        }
    }
    (pixels, width)
}

/// Greedy CTC over a line's own frames (T, C): text, and the geometric mean of its characters'
/// confidences, each the maximum softmax(logits / temperature) among the frames of its run.
pub fn decode(
    logits: &[f32],
    frames: usize,
    characters: &[char],
    temperature: f64,
) -> (String, f64) {
    let classes = characters.len() + 1; // class 0 is the blank
    let (mut text, mut confidences, mut before) = (String::new(), Vec::<f64>::new(), 0);
    for frame in logits.chunks(classes).take(frames) {
        let (mut best, mut peak) = (0, frame[0]);
        for (class, &value) in frame.iter().enumerate() {
            if value > peak {
                (best, peak) = (class, value)
            }
        }
        let probability =
            1.0 / frame.iter().map(|v| ((v - peak) as f64 / temperature).exp()).sum::<f64>();
        if best != 0 && best != before {
            text.push(characters[best - 1]);
            confidences.push(probability);
        } else if best != 0 {
            let last = confidences.last_mut().unwrap();
            *last = last.max(probability);
        }
        before = best;
    }
    let logs: f64 = confidences.iter().map(|p| p.ln()).sum();
    let mean = if confidences.is_empty() { 0.0 } else { (logs / confidences.len() as f64).exp() };
    (text, mean)
}
