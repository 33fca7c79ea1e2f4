//! ONNX Runtime through its C API, from release 1.17 on, as far as a recognizer needs it. Where
//! crates can be downloaded, the crate `ort` takes the place of this file.
use crate::host::{HEIGHT, STRIDE};
use std::{ffi::*, ptr};

// ONNX Runtime's C API is a table of functions; these are the numbers of the ones used here.
#[repr(C)]
struct OrtApiBase {
    get_api: extern "C" fn(u32) -> *const *const c_void,
    version: extern "C" fn() -> *const c_char,
}
extern "C" {
    fn OrtGetApiBase() -> *const OrtApiBase;
}
const CREATE_ENV: usize = 3;
const CREATE_SESSION: usize = 7;
const RUN: usize = 9;
const CREATE_OPTIONS: usize = 10;
const CREATE_TENSOR: usize = 49;
const TENSOR_DATA: usize = 51;
const CPU_MEMORY: usize = 69;
type P = *mut c_void;

/// Call function `number` of the table; every one returns null or an error.
macro_rules! ort { ($api:expr, $number:expr, ($($kind:ty),*), $($argument:expr),*) => {{
    let call: extern "C" fn($($kind),*) -> P = unsafe { std::mem::transmute(*$api.add($number)) };
    assert!(call($($argument),*).is_null(), "ONNX Runtime refused call {}", $number);
}} }

pub struct Network {
    api: *const *const c_void,
    session: P,
    memory: P,
}

impl Network {
    pub fn open(path: &str) -> Network {
        let api = unsafe { ((*OrtGetApiBase()).get_api)(17) };
        let (mut env, mut options, mut session, mut memory): (P, P, P, P) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let path = CString::new(path).unwrap();
        ort!(api, CREATE_ENV, (c_int, *const c_char, *mut P), 3, c"host".as_ptr(), &mut env);
        ort!(api, CREATE_OPTIONS, (*mut P), &mut options);
        ort!(
            api,
            CREATE_SESSION,
            (P, *const c_char, P, *mut P),
            env,
            path.as_ptr(),
            options,
            &mut session
        );
        ort!(api, CPU_MEMORY, (c_int, c_int, *mut P), 0, 0, &mut memory);
        Network { api, session, memory }
    }

    /// Run a batch (N, 3, 32, W) and return its logits (N, W / 4, C).
    pub fn run(&self, pixels: &mut [f32], lines: usize, width: usize, classes: usize) -> Vec<f32> {
        let shape = [lines as i64, 3, HEIGHT as i64, width as i64];
        let (mut input, mut output, mut data): (P, P, P) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ort!(
            self.api,
            CREATE_TENSOR,
            (P, P, usize, *const i64, usize, c_int, *mut P),
            self.memory,
            pixels.as_mut_ptr().cast(),
            4 * pixels.len(),
            shape.as_ptr(),
            4,
            1,
            &mut input
        );
        let (names, outputs) = ([c"input".as_ptr()], [c"output".as_ptr()]);
        ort!(
            self.api,
            RUN,
            (P, P, *const *const c_char, *const P, usize, *const *const c_char, usize, *mut P),
            self.session,
            ptr::null_mut(),
            names.as_ptr(),
            &input,
            1,
            outputs.as_ptr(),
            1,
            &mut output
        );
        ort!(self.api, TENSOR_DATA, (P, *mut P), output, &mut data);
        unsafe { std::slice::from_raw_parts(data.cast::<f32>(), lines * width / STRIDE * classes) }
            .to_vec()
    }
}
