//! Nodes one after another, with the constants that they read.

use byteorder::{ByteOrder, LittleEndian};

use super::messages::{
    A_FLOAT, AN_INT, Attribute, Dim, FLOAT, INTS, Kind, Node, Shape, Size, Tensor, TensorKind,
    Value,
};

/// A graph that grows at its end.
#[derive(Default)]
pub struct Nodes {
    pub nodes: Vec<Node>,
    pub constants: Vec<Tensor>,
}

impl Nodes {
    /// Adds a node called `name`, and returns the name of its only output, which is the same.
    pub fn add(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        self.nodes.push(Node {
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![name.to_owned()],
            name: name.to_owned(),
            operator: operator.to_owned(),
            attributes,
        });
        name.to_owned()
    }

    /// Adds a constant called `name` and returns its name.
    pub fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let mut bytes = vec![0; size_of_val(values)];
        LittleEndian::write_f32_into(values, &mut bytes);
        self.constants.push(Tensor {
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            element: FLOAT,
            name: name.to_owned(),
            bytes,
        });
        name.to_owned()
    }
}

pub fn float(name: &str, value: f32) -> Attribute {
    Attribute {
        name: name.to_owned(),
        float: Some(value),
        kind: A_FLOAT,
        ..Attribute::default()
    }
}

pub fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        name: name.to_owned(),
        int: Some(value),
        kind: AN_INT,
        ..Attribute::default()
    }
}

pub fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        ints: values.to_vec(),
        kind: INTS,
        ..Attribute::default()
    }
}

/// The input or output called `name`: an array of any number of rows, of dimensions `row` each.
pub fn rows(name: &str, element: i32, row: &[usize]) -> Value {
    let mut dims = vec![dim(Size::Free("N".to_owned()))];
    dims.extend(row.iter().map(|size| dim(Size::Fixed(*size as i64))));
    Value {
        name: name.to_owned(),
        kind: Some(Kind {
            tensor: Some(TensorKind {
                element,
                shape: Some(Shape { dims }),
            }),
        }),
    }
}

fn dim(size: Size) -> Dim {
    Dim { size: Some(size) }
}
