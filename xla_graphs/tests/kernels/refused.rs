//! Layers and calls that are refused.

use kernel_contract::plan::{self, Norm, NormBackward, Start};
use kernel_contract::{Format, Kernel, Plan};
use xla::ElementType;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::kernels::{self, Features};

use crate::chain::{Chain, Shape};
use crate::common::{Graph, NO_KERNELS, input};

/// Why the first layer of `chain` cannot be traced, with its input as a skip or without.
fn refusal(chain: &Chain, has_skip: bool) -> String {
    let mut message = String::new();
    Graph::new(&chain.inputs(), |t| {
        let (bn, conv) = &chain.layers[0];
        let moving = |name| t.get(&format!("{}/{name}", bn.name));
        let (mean, variance) = (moving("moving_mean")?, moving("moving_variance")?);
        let x = Features::new(t.get("x")?, mean, variance)?;
        let skip = has_skip.then_some(&x);
        let traced = kernels::forward(t, bn, conv, &x, skip, Replicas(1));
        message = traced.err().unwrap().to_string();
        Ok(vec![t.get("x")?.clone()])
    });
    message
}

#[test]
fn a_layer_that_no_kernel_computes_is_refused_where_the_graph_is_built() {
    let refused = |channels, shape, reason: &str| {
        let chain = Chain::new([2, 4, 4, channels], [shape, Shape(1, 1, 16)]);
        let message = refusal(&chain, false);
        assert_eq!(
            message,
            format!(
                "`c0` as a call of resnet_layer_forward: {reason}. Lowering::Dots has no such limit"
            )
        );
    };
    refused(
        16,
        Shape(5, 1, 16),
        "the convolution: expected 1x1 or 3x3, got 5x5",
    );
    refused(
        20,
        Shape(1, 1, 16),
        "input channels: expected a multiple of 16, got 20",
    );
}

#[test]
fn a_skip_that_is_too_small_is_refused_where_the_graph_is_built() {
    // 2 x 4 x 4 pixels of 16 channels beside a result of 32 channels.
    let chain = Chain::new([2, 4, 4, 16], [Shape(1, 1, 32), Shape(1, 1, 16)]);
    assert_eq!(
        refusal(&chain, true),
        "`c0`: the skip needs 1024 values of its array, which has 512"
    );
}

/// What a call by hand of the kernel that goes back through a batch norm comes to, with these `attributes`, and with two
/// arrays of 16 values of f32 as operands behind an s32, or without that.
fn call(attributes: &str, with_round: bool) -> xla::Result<Vec<Vec<f32>>> {
    let inputs = [input("x", &[1, 1, 1, 16]), input("added", &[1, 1, 1, 16])];
    let graph = Graph::new(&inputs, |t| {
        let x = t.get("x")?;
        let mut operands = vec![x.clone(), t.get("added")?.clone()];
        if with_round {
            operands.insert(0, x.builder().c0(0i32)?);
        }
        let (name, attributes) = (Kernel::NormBackward.name(), attributes.as_bytes());
        let (f32, dims, builder) = (ElementType::F32, [1, 1, 1, 16], x.builder());
        Ok(vec![
            builder.custom_call(name, &operands, f32, &dims, attributes)?,
        ])
    });
    graph.try_run(&inputs)
}

fn attribute(plan: &[i32]) -> String {
    let numbers: Vec<_> = plan.iter().map(i32::to_string).collect();
    format!("plan = array<i32: {}>", numbers.join(", "))
}

/// The backward pass through a batch norm of 16 channels of one pixel. All arrays but `added` are the same one, in
/// which gamma begins at value `gamma`.
fn norm_backward(gamma: usize, added: usize) -> Vec<i32> {
    let at = |operand, offset| Start {
        operand,
        offset,
        per_round: 0,
    };
    let norm = Norm {
        mean: at(0, 0),
        variance: at(0, 0),
        gamma: at(0, gamma),
        beta: at(0, 0),
    };
    let behind = plan::BehindNorm {
        norm,
        dgamma: at(0, 0),
        dbeta: at(0, 0),
        count: 1,
        dz: at(0, 0),
        x: at(0, 0),
    };
    let plan = NormBackward {
        dims: [1, 1, 1, 16],
        format: Format::F32,
        behind,
        joined: false,
        added: at(added, 0),
    };
    plan.encode().unwrap()
}

#[test]
fn a_wrong_call_is_an_error_that_says_what_is_wrong() {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    let refused = |attributes: &str, with_round, reason: &str| {
        let error = call(attributes, with_round).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    };
    for (place, reason) in [
        (0, "it begins with 0x4d2 instead of 0x524e584c"),
        (1, "expected version 7 of the plans, got 1234"),
        (2, "expected the plan of kernel 2, got that of kernel 1234"),
    ] {
        let mut plan = norm_backward(0, 1);
        plan[place] = 1234;
        let reason = format!("this call's plan is wrong: {reason}");
        refused(&format!("{{{}}}", attribute(&plan)), true, &reason);
    }
    let no_plan = "the call has no attribute `plan` that is an array of s32";
    for attributes in [
        "",
        "{plan = \"a text\"}",
        "{plan = array<i64: 1>}",
        "{other = array<i32: 1>}",
    ] {
        refused(attributes, true, no_plan);
    }
    let good = format!(
        "{{in_place = 2 : i64, {}}}",
        attribute(&norm_backward(0, 1))
    );
    let late = format!("{{{}}}", attribute(&norm_backward(8, 1)));
    refused(&late, true, "operand 1: expected 24 values, got 16");
    let elsewhere = format!("{{{}}}", attribute(&norm_backward(0, 1)));
    refused(
        &elsewhere,
        true,
        "result 0: expected the place of operand 2",
    );
    refused(&elsewhere, false, "operand 0: expected s32, got f32");
    // Over what it reads.
    let over = format!(
        "{{in_place = 1 : i64, {}}}",
        attribute(&norm_backward(0, 0))
    );
    refused(&over, true, "result 0: expected a place of its own");
    let got = call(&good, true).unwrap();
    assert_eq!(got[0].len(), 16);
}
