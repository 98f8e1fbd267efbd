//! Tensors by name, one by one and in blocks.

use xla::{XlaBuilder, XlaOp};
use xla_graphs::table::Role;
use xla_graphs::tensors::Tensors;
use xla_graphs::{Init, TensorSpec};

/// `a` of 2 values, `b` of 3, `c` of 4.
fn specs() -> [TensorSpec; 3] {
    [("a", 2), ("b", 3), ("c", 4)].map(|(name, len)| TensorSpec {
        name: name.to_owned(),
        dims: vec![len],
        init: Init::Zeros,
        role: Role::Weight { decays: false },
    })
}

fn values(builder: &XlaBuilder, len: i64) -> XlaOp {
    builder.c0(0f32).unwrap().broadcast(&[len]).unwrap()
}

#[test]
fn blocks_and_single_tensors_join_in_order() {
    let (builder, [a, b, c]) = (XlaBuilder::new("test"), specs());
    let mut tensors = Tensors::new();
    tensors.insert("a", values(&builder, 2));
    let block = values(&builder, 7);
    tensors
        .insert_block(&[b.clone(), c.clone()], block)
        .unwrap();
    let joined = tensors.join(&[a, b, c]).unwrap();
    assert_eq!(joined.dims().unwrap(), [9]);
}

#[test]
fn a_block_that_does_not_end_with_its_last_tensor_is_refused() {
    let (builder, [_, b, c]) = (XlaBuilder::new("test"), specs());
    for len in [6, 8] {
        let block = values(&builder, len);
        let error = Tensors::new().insert_block(&[b.clone(), c.clone()], block);
        assert_eq!(
            error.unwrap_err().to_string(),
            format!("the tensors from `b` on: expected 7 values, got {len}")
        );
    }
}

#[test]
fn a_tensor_longer_than_its_place_is_refused_and_hides_none_of_those_behind_it() {
    let (builder, [a, b, c]) = (XlaBuilder::new("test"), specs());
    let mut tensors = Tensors::new();
    tensors.insert("a", values(&builder, 4));
    tensors.insert("c", values(&builder, 4));
    let error = tensors.join(&[a, b, c]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the tensors from `a` on: expected 2 values, got 4"
    );
}

#[test]
fn a_block_where_other_tensors_belong_is_refused() {
    let (builder, [a, b, c]) = (XlaBuilder::new("test"), specs());
    let mut tensors = Tensors::new();
    let block = values(&builder, 6);
    tensors
        .insert_block(&[a.clone(), c.clone()], block)
        .unwrap();
    let error = tensors.join(&[a.clone(), b, c]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the tensors from `a` on: expected `a`, `b`, got `a`, `c`"
    );
    let error = tensors.join(&[a]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the tensors from `a` on: expected `a`, got `a`, `c`"
    );
}

#[test]
fn the_first_tensor_of_a_block_is_not_read_as_the_whole_block() {
    let (builder, [a, b, _]) = (XlaBuilder::new("test"), specs());
    let mut tensors = Tensors::new();
    tensors.insert_block(&[a, b], values(&builder, 5)).unwrap();
    let error = tensors.get("a").err().unwrap();
    assert_eq!(
        error.to_string(),
        "the tensors from `a` on: expected this tensor alone, got a block of 2 tensors"
    );
    assert_eq!(tensors.block("a").unwrap().dims().unwrap(), [5]);
    assert!(tensors.get("b").is_err());
}
