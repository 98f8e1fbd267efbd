//! The part of ONNX's protocol buffers that a network needs: `onnx.proto`, with its field numbers and under shorter
//! names.

/// Types of elements: `TensorProto.DataType`.
pub const FLOAT: i32 = 1;
pub const UINT8: i32 = 2;

/// Types of attributes: `AttributeProto.AttributeType`.
pub const A_FLOAT: i32 = 1;
pub const AN_INT: i32 = 2;
pub const INTS: i32 = 7;

/// `ModelProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub file_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub operators: Vec<Operators>,
    #[prost(message, repeated, tag = "14")]
    pub properties: Vec<Property>,
}

/// `OperatorSetIdProto`: a set of operators, and its version. The domain of ONNX's own has no name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Operators {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Property {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    /// Each after those that it depends on.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub constants: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<Value>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
}

/// `AttributeProto`: one of the values is there, as the type says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub float: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub int: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub element: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    /// The values, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub bytes: Vec<u8>,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Kind>,
}

/// `TypeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kind {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorKind>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorKind {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dims: Vec<Dim>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dim {
    #[prost(oneof = "Size", tags = "1, 2")]
    pub size: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Size {
    #[prost(int64, tag = "1")]
    Fixed(i64),
    /// Any size, under a name.
    #[prost(string, tag = "2")]
    Free(String),
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::graph::{Nodes, float, int, ints, rows};
    use super::*;

    /// Written by ONNX's own library: `tests/fixtures/make_onnx_fixture.py`.
    const TINY: &[u8] = include_bytes!("../../../tests/fixtures/tiny.onnx");

    #[test]
    fn onnxs_own_library_writes_the_same_bytes() {
        let mut nodes = Nodes::default();
        nodes.add("cast", "Cast", &["x"], vec![int("to", 1)]);
        nodes.add(
            "turned",
            "Transpose",
            &["cast"],
            vec![ints("perm", &[0, 1])],
        );
        nodes.constant("kernel", &[2, 1], &[1.0, 2.0]);
        let attributes = vec![float("alpha", 0.5), int("transB", 0)];
        nodes.add("y", "Gemm", &["turned", "kernel"], attributes);
        let model = Model {
            file_version: 8,
            producer_name: "fixture".to_owned(),
            producer_version: "1".to_owned(),
            graph: Some(Graph {
                nodes: nodes.nodes,
                name: "tiny".to_owned(),
                constants: nodes.constants,
                inputs: vec![rows("x", UINT8, &[2])],
                outputs: vec![rows("y", FLOAT, &[1])],
            }),
            operators: vec![Operators {
                domain: String::new(),
                version: 17,
            }],
            properties: vec![Property {
                key: "class_names".to_owned(),
                value: r#"["a"]"#.to_owned(),
            }],
        };
        assert_eq!(Model::decode(TINY).unwrap(), model);
        assert_eq!(model.encode_to_vec(), TINY);
    }
}
