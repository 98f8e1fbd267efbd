//! Runs a StableHLO program as its specification defines the operations, line by line from its text.

use std::collections::HashMap;

use crate::array::{self, Array, Geometry};

/// What `main` in `text` returns for `images` `[N, H, W, 3]`.
pub fn run(text: &str, images: Array) -> Array {
    let mut values = HashMap::from([("%images".to_owned(), images)]);
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some((name, operation)) = line.split_once(" = ")
            && name.starts_with('%')
        {
            let mut operation = operation.to_owned();
            if operation.ends_with("({") {
                // A region: the larger of two values. Its last line has the types.
                let region: Vec<&str> = lines.by_ref().take(4).collect();
                assert!(region[1].contains("= stablehlo.maximum %a, %b "));
                operation.push_str(region[3]);
            }
            let output = apply(&operation, &values);
            assert_eq!(output.dims, dims_of_result(&operation), "{name}");
            assert!(values.insert(name.to_owned(), output).is_none(), "{name}");
        } else if let Some(result) = line.strip_prefix("return ") {
            return values.remove(result.split(' ').next().unwrap()).unwrap();
        }
    }
    panic!("nothing is returned");
}

fn apply(text: &str, values: &HashMap<String, Array>) -> Array {
    let name = text
        .trim_start_matches('"')
        .trim_start_matches("stablehlo.");
    let name = name
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap();
    let inputs: Vec<&Array> = operands(text).map(|name| &values[name]).collect();
    match (name, inputs.as_slice()) {
        ("constant", []) => constant(text),
        ("convert", [x]) => (*x).clone(),
        ("add", [x, y]) => both(x, y, |x, y| x + y),
        ("subtract", [x, y]) => both(x, y, |x, y| x - y),
        ("multiply", [x, y]) => both(x, y, |x, y| x * y),
        ("divide", [x, y]) => both(x, y, |x, y| x / y),
        ("maximum", [x, y]) => both(x, y, f64::max),
        ("broadcast_in_dim", [x]) => spread(x, &numbers(text, "dims = ["), dims_of_result(text)),
        ("convolution", [x, kernel]) => convolution(text, x, kernel),
        ("batch_norm_inference", [x, gamma, beta, mean, variance]) => {
            assert_eq!(numbers(text, "feature_index = "), [3]);
            let epsilon = text.split("epsilon = ").nth(1).unwrap();
            let epsilon = epsilon.split(' ').next().unwrap();
            // By MLIR's grammar.
            assert!(epsilon.contains('.'), "{epsilon}");
            let epsilon = epsilon.parse().unwrap();
            let y = array::batch_norm(&nchw(x), [gamma, beta, mean, variance], epsilon);
            nhwc(&y)
        }
        ("reduce_window", [x, least]) => {
            assert_eq!(least.values, [f64::NEG_INFINITY]);
            let [sides, strides] = ["window_dimensions", "window_strides"].map(|window| {
                let sizes = numbers(text, &format!("{window} = array<i64: "));
                assert_eq!((sizes[0], sizes[1], sizes[3]), (1, sizes[2], 1));
                sizes[1]
            });
            let (mut before, mut after) = ([0, 0], [0, 0]);
            if text.contains("padding = dense<") {
                let list = text.split("padding = dense<[[").nth(1).unwrap();
                let list = list.split("]]>").next().unwrap().replace("], [", ", ");
                let pads = list.split(", ").map(|pad| pad.parse().unwrap());
                let pads: Vec<usize> = pads.collect();
                assert_eq!((&pads[..2], &pads[6..]), (&[0, 0][..], &[0, 0][..]));
                (before, after) = ([pads[2], pads[4]], [pads[3], pads[5]]);
            }
            let geometry = Geometry {
                strides: [strides; 2],
                before,
                after,
            };
            nhwc(&array::max_pool(&nchw(x), sides, &geometry))
        }
        ("reduce", [x, zero]) => {
            assert_eq!(
                (numbers(text, "dimensions = ["), &zero.values[..]),
                (vec![1, 2], &[0.0][..])
            );
            let area = (x.dims[1] * x.dims[2]) as f64;
            array::means(&nchw(x)).map(|mean| mean * area)
        }
        ("dot_general", [x, kernel]) => {
            assert!(text.contains("contracting_dims = [1] x [0]"));
            let none = Array::new(vec![kernel.dims[1]], vec![0.0; kernel.dims[1]]);
            array::dense(x, kernel, &none)
        }
        (other, inputs) => panic!("{other} of {} values", inputs.len()),
    }
}

/// The names behind % before the types.
fn operands(text: &str) -> impl Iterator<Item = &str> {
    let before = text
        .split(" : ")
        .next()
        .unwrap()
        .split("<{")
        .next()
        .unwrap();
    before.match_indices('%').map(move |(at, _)| {
        let name = &before[at..];
        let end = name[1..].find(|c: char| !c.is_alphanumeric());
        &name[..end.map_or(name.len(), |end| end + 1)]
    })
}

/// The numbers behind `key`, up to the first thing that is none.
fn numbers(text: &str, key: &str) -> Vec<usize> {
    let rest = text.split(key).nth(1).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit() && !", ".contains(c));
    let list = rest[..end.unwrap_or(rest.len())].split(", ");
    list.map(str::trim)
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().unwrap())
        .collect()
}

/// `tensor<8x32x32x3xf32>` is the last type of an operation.
fn dims_of_result(text: &str) -> Vec<usize> {
    let kind = text.rsplit("tensor<").next().unwrap();
    let mut dims: Vec<&str> = kind.trim_end_matches('>').split('x').collect();
    assert_eq!(dims.pop(), Some("f32"));
    dims.iter().map(|dim| dim.parse().unwrap()).collect()
}

fn constant(text: &str) -> Array {
    let digits = text
        .split("dense<\"0x")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let values = (0..digits.len()).step_by(8).map(|at| {
        let value = f32::from_le_bytes([0, 2, 4, 6].map(|offset| byte(at + offset)));
        f64::from(value)
    });
    Array::new(dims_of_result(text), values.collect())
}

fn both(x: &Array, y: &Array, function: impl Fn(f64, f64) -> f64) -> Array {
    assert_eq!(x.dims, y.dims);
    let values = x
        .values
        .iter()
        .zip(&y.values)
        .map(|(x, y)| function(*x, *y));
    Array::new(x.dims.clone(), values.collect())
}

/// One value everywhere, or one for each place of the last axis.
fn spread(x: &Array, axes: &[usize], dims: Vec<usize>) -> Array {
    match axes {
        [] => assert!(x.dims.is_empty()),
        [axis] => assert_eq!((*axis, x.dims[0]), (dims.len() - 1, dims[dims.len() - 1])),
        _ => panic!("{axes:?}"),
    }
    let length = dims.iter().product();
    let values = x.values.iter().copied().cycle().take(length);
    Array::new(dims, values.collect())
}

fn convolution(text: &str, x: &Array, kernel: &Array) -> Array {
    assert!(text.contains("dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"));
    let rows = numbers(text, "pad = [[");
    let columns = numbers(text.split("pad = [[").nth(1).unwrap(), "], [");
    let strides = numbers(text, "stride = [");
    let geometry = Geometry {
        strides: [strides[0], strides[1]],
        before: [rows[0], columns[0]],
        after: [rows[1], columns[1]],
    };
    let kernel = array::transpose(kernel, [3, 2, 0, 1]);
    nhwc(&array::conv(&nchw(x), &kernel, &geometry))
}

fn nchw(x: &Array) -> Array {
    array::transpose(x, [0, 3, 1, 2])
}

fn nhwc(x: &Array) -> Array {
    array::transpose(x, [0, 2, 3, 1])
}
