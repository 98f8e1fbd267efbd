//! The operations of a function, one after another, in MLIR's text.

use std::fmt::Write;

/// A value, with its dimensions; every one but the images is f32.
#[derive(Clone)]
pub struct Value {
    pub name: String,
    pub dims: Vec<usize>,
}

impl Value {
    pub fn kind(&self) -> String {
        tensor(&self.dims, "f32")
    }
}

/// The type of an array.
pub fn tensor(dims: &[usize], element: &str) -> String {
    let dims: String = dims.iter().map(|dim| format!("{dim}x")).collect();
    format!("tensor<{dims}{element}>")
}

/// A function's body that grows at its end.
#[derive(Default)]
pub struct Body {
    pub text: String,
    values: usize,
}

impl Body {
    /// Adds an `operation`, written without its result, which has the dimensions `dims`.
    pub fn add(&mut self, dims: &[usize], operation: &str) -> Value {
        let name = format!("%{}", self.values);
        self.values += 1;
        self.text.push_str(&format!("    {name} = {operation}\n"));
        Value {
            name,
            dims: dims.to_vec(),
        }
    }

    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let mut digits = String::with_capacity(8 * values.len());
        for byte in values.iter().flat_map(|value| value.to_le_bytes()) {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02X}");
        }
        let kind = tensor(dims, "f32");
        self.add(
            dims,
            &format!("stablehlo.constant dense<\"0x{digits}\"> : {kind}"),
        )
    }

    /// `values`, one for each place of the last axis of `dims`, or one for all.
    pub fn spread(&mut self, values: &Value, dims: &[usize]) -> Value {
        let axis = match values.dims.as_slice() {
            [] => String::new(),
            _ => (dims.len() - 1).to_string(),
        };
        let (from, to) = (values.kind(), tensor(dims, "f32"));
        let name = &values.name;
        let operation =
            format!("stablehlo.broadcast_in_dim {name}, dims = [{axis}] : ({from}) -> {to}");
        self.add(dims, &operation)
    }

    /// An operation of two values of the same dimensions, such as `add`.
    pub fn binary(&mut self, operation: &str, x: &Value, y: &Value) -> Value {
        let text = format!(
            "stablehlo.{operation} {}, {} : {}",
            x.name,
            y.name,
            x.kind()
        );
        self.add(&x.dims, &text)
    }
}
