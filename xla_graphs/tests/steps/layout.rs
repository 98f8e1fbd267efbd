//! The tensors of a network: their names, and where they lie.

use xla_graphs::Architecture;
use xla_graphs::ops::Lowering;

use crate::trainer::model;

#[test]
fn depths_outside_the_family_are_refused() {
    for depth in [0, 2, 10, 12, 163] {
        let error = Architecture::resnet_v2(depth).unwrap_err();
        assert!(
            error.to_string().contains(&format!("depth {depth} ")),
            "{error}"
        );
    }
}

#[test]
fn tensors_lie_in_flat_arrays_without_gap_or_overlap_decaying_weights_first() {
    let layout = model(Lowering::Native).layout();
    let values: Vec<Vec<f32>> = (0..layout.state().len())
        .map(|i| vec![i as f32 + 0.5; layout.state()[i].len()])
        .collect();
    let flat = layout.join(&values);
    assert_eq!(layout.split(&flat), values);
    // No element kept the 0 that an array starts with.
    assert!(flat.iter().flatten().all(|&v| v > 0.0));
    let total: usize = flat.iter().map(Vec::len).sum();
    assert_eq!(total, values.iter().map(Vec::len).sum::<usize>());
    let kernels = layout
        .network()
        .iter()
        .filter(|t| t.name.ends_with("/kernel"));
    let decaying: usize = kernels.map(|t| t.len()).sum();
    assert_eq!(layout.decaying_len(), decaying);
    let mut offset = 0;
    for spec in layout.tensors_of(xla_graphs::table::Array::Weights) {
        assert_eq!(
            spec.name.ends_with("/kernel"),
            offset < decaying,
            "{}",
            spec.name
        );
        offset += spec.len();
    }
}

#[test]
fn the_layout_follows_the_tutorials_names() {
    let layout = model(Lowering::Native).layout();
    let names: Vec<&str> = layout.state().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names[0], "conv_in/kernel");
    for name in [
        "stage1/unit01/bn1/moving_variance",
        "stage3/unit01/shortcut/kernel",
        "bn_out/gamma",
        "dense/bias",
        "momentum/stage2/unit01/conv2/kernel",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    assert!(!names.contains(&"momentum/bn_out/moving_mean"));
}
