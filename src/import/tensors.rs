//! Values of PyTorch in this program's order.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// The tensor called `name` of `file`, in the order of `dims`: convolutions `[out, in, h, w]` become `[h, w, in, out]`,
/// and matrices `[out, in]` become `[in, out]`.
///
/// # Errors
/// What is wrong with it.
pub fn read(file: &SafeTensors, name: &str, dims: &[usize]) -> Result<Vec<f32>, String> {
    let view = file.tensor(name).map_err(|_| "missing".to_owned())?;
    let expected = theirs(dims);
    let got = view.shape();
    if got != expected {
        return Err(format!("expected {expected:?}, got {got:?}"));
    }
    let values = floats(&view)?;
    Ok(match *dims {
        [height, width, inputs, outputs] => ours(&values, height * width, inputs, outputs),
        [inputs, outputs] => ours(&values, 1, inputs, outputs),
        _ => values,
    })
}

/// The dimensions that PyTorch gives what here has `dims`.
pub fn theirs(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [height, width, inputs, outputs] => vec![outputs, inputs, height, width],
        [inputs, outputs] => vec![outputs, inputs],
        _ => dims.to_vec(),
    }
}

/// `[outputs, inputs, area]` as `[area, inputs, outputs]`.
fn ours(values: &[f32], area: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for pixel in 0..area {
        for input in 0..inputs {
            let of_output = |output| values[(output * inputs + input) * area + pixel];
            turned.extend((0..outputs).map(of_output));
        }
    }
    turned
}

fn floats(view: &TensorView) -> Result<Vec<f32>, String> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F64 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b) as f32)
            .collect(),
        Dtype::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        Dtype::F16 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        Dtype::BF16 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
        other => return Err(format!("expected F64, F32, F16 or BF16, got {other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dimension_becomes_the_first_and_the_first_the_last() {
        // [out 2, in 3, 1 x 2]: value = 100 out + 10 in + pixel.
        let values: Vec<f32> = (0..2)
            .flat_map(|o| (0..3).flat_map(move |i| [0, 1].map(|p| (100 * o + 10 * i + p) as f32)))
            .collect();
        let expected = [0, 100, 10, 110, 20, 120, 1, 101, 11, 111, 21, 121].map(|v| v as f32);
        assert_eq!(ours(&values, 2, 3, 2), expected);
    }
}
