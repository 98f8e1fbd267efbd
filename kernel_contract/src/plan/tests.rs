//! Every plan as numbers and back, and what is refused.

use std::fmt::Debug;

use super::*;
use crate::array::Array;
use crate::error::PlanError;
use crate::format::Format;
use crate::kernel::Kernel;
use crate::layer::Layer;
use crate::numbers::Writer;

/// Starts that differ in all their numbers.
struct Starts(usize);

impl Starts {
    fn next(&mut self) -> Start {
        self.0 += 3;
        Start {
            operand: self.0,
            offset: self.0 + 1,
            per_round: self.0 + 2,
        }
    }

    fn norm(&mut self) -> Norm {
        Norm {
            mean: self.next(),
            variance: self.next(),
            gamma: self.next(),
            beta: self.next(),
        }
    }

    fn behind(&mut self) -> BehindNorm {
        BehindNorm {
            norm: self.norm(),
            dgamma: self.next(),
            dbeta: self.next(),
            count: 77,
            dz: self.next(),
            x: self.next(),
        }
    }
}

fn layer(side: usize, stride: usize) -> Layer {
    Layer {
        images: 5,
        height: 7,
        width: 9,
        inputs: 16,
        outputs: 48,
        side,
        stride,
        pools: false,
        format: Format::F32,
    }
}

fn forward(layer: Layer, has_skip: bool) -> LayerForward {
    let mut starts = Starts(0);
    LayerForward {
        layer,
        norm: starts.norm(),
        kernel: starts.next(),
        x: starts.next(),
        skip: has_skip.then(|| starts.next()),
        row: None,
    }
}

fn into_row(layer: Layer) -> LayerForward {
    let start = Starts(200).next();
    LayerForward {
        row: Some(Row { start, rows: 9 }),
        ..forward(layer, true)
    }
}

fn pooling(side: usize) -> Layer {
    Layer {
        pools: true,
        ..layer(side, 1)
    }
}

fn backward(layer: Layer, dy: OutputGradient) -> LayerBackward {
    let mut starts = Starts(100);
    LayerBackward {
        layer,
        norm: starts.norm(),
        kernel: starts.next(),
        x: starts.next(),
        dy,
    }
}

/// A 1x1 layer, a 3x3 layer with stride 2, and a 1x1 layer to which the first one's value is added.
fn inference() -> Inference {
    let mut starts = Starts(0);
    let mut next = |layer, input, added| InferenceLayer {
        layer,
        norm: starts.norm(),
        kernel: starts.next(),
        input,
        added,
    };
    let narrows = Layer {
        inputs: 48,
        outputs: 32,
        ..layer(3, 2)
    };
    let widens = Layer {
        height: 4,
        width: 5,
        inputs: 32,
        ..layer(1, 1)
    };
    let added = Added {
        value: 1,
        stride: 2,
    };
    Inference {
        layers: vec![
            next(layer(1, 1), 0, None),
            next(narrows, 1, None),
            next(widens, 2, Some(added)),
        ],
        x: Starts(200).next(),
        stem: None,
    }
}

/// The same behind a stem with stride 2.
fn with_stem() -> Inference {
    let stem = Stem {
        image: [13, 18, 3],
        side: 7,
        stride: 2,
        kernel: Starts(210).next(),
    };
    Inference {
        stem: Some(stem),
        ..inference()
    }
}

fn unwritten() -> Unwritten {
    Unwritten {
        array: Array::of(Format::Bf16, &[7, 8, 16]),
        number: 2,
    }
}

fn pooled() -> OutputGradient {
    let mut starts = Starts(50);
    OutputGradient::Pooled {
        dy: starts.next(),
        chosen: starts.next(),
    }
}

fn junction(joined: bool) -> OutputGradient {
    let mut starts = Starts(50);
    OutputGradient::Junction {
        behind: starts.behind(),
        joined,
        added: starts.next(),
    }
}

fn comes_back<P: Plan + Debug + PartialEq>(plan: &P) {
    assert_eq!(&P::decode(&plan.encode().unwrap()).unwrap(), plan);
}

#[test]
fn every_plan_comes_back_from_its_numbers() {
    comes_back(&forward(layer(1, 2), true));
    comes_back(&forward(layer(3, 1), false));
    let bf16 = Layer {
        format: Format::Bf16,
        ..layer(1, 1)
    };
    comes_back(&forward(bf16, false));
    comes_back(&forward(pooling(3), false));
    comes_back(&into_row(layer(1, 1)));
    let plain = OutputGradient::Plain(Starts(50).next());
    comes_back(&backward(layer(3, 1), plain));
    let behind = OutputGradient::BehindNorm(Starts(50).behind());
    comes_back(&backward(layer(3, 1), behind));
    comes_back(&backward(pooling(3), pooled()));
    for joined in [false, true] {
        comes_back(&backward(layer(1, 2), junction(joined)));
        comes_back(&NormBackward {
            dims: [2, 3, 5, 32],
            format: Format::Bf16,
            behind: Starts(0).behind(),
            joined,
            added: Starts(90).next(),
        });
    }
    comes_back(&unwritten());
    comes_back(&inference());
    comes_back(&with_stem());
}

#[test]
fn an_unwritten_array_is_these_numbers() {
    // "RNXL", version 7, the fourth kernel, ten numbers in all, the second array, of bf16, with three axes.
    let expected = [0x524e_584c, 7, 3, 10, 2, 1, 3, 7, 8, 16];
    assert_eq!(unwritten().encode().unwrap(), expected);
}

#[test]
fn a_header_that_is_not_the_kernels_own_is_refused() {
    let good = unwritten().encode().unwrap();
    let with = |place: usize, number: i32| {
        let mut numbers = good.clone();
        numbers[place] = number;
        Unwritten::decode(&numbers).unwrap_err()
    };
    assert_eq!(with(0, 0), PlanError::Magic { got: 0 });
    assert_eq!(with(1, 1), PlanError::Version { got: 1 });
    let (expected, got) = (Kernel::Unwritten as i32, Kernel::NormBackward as i32);
    assert_eq!(with(2, got), PlanError::Kernel { expected, got });
    let (expected, got) = (11, 10);
    assert_eq!(with(3, 11), PlanError::Length { expected, got });
    assert_eq!(with(3, -1), PlanError::Short);
    assert_eq!(Unwritten::decode(&good[..3]), Err(PlanError::Short));
}

#[test]
fn a_plan_with_too_few_or_too_many_fields_is_refused() {
    let with = |change: &dyn Fn(&mut Vec<i32>)| {
        let mut numbers = forward(layer(1, 1), true).encode().unwrap();
        change(&mut numbers);
        numbers[HEADER - 1] = numbers.len() as i32;
        LayerForward::decode(&numbers).unwrap_err()
    };
    let short = with(&|numbers| {
        numbers.pop();
    });
    assert_eq!(short, PlanError::Short);
    let long = with(&|numbers| numbers.push(0));
    assert!(matches!(long, PlanError::Length { .. }), "{long}");
    let negative = with(&|numbers| numbers[HEADER] = -1);
    assert!(negative.to_string().contains("0 or more, got -1"));
}

fn refused<P: Plan + Debug>(plan: P, reason: &str) {
    assert_eq!(plan.encode().unwrap_err().to_string(), reason);
    // As a graph from elsewhere could ask for it.
    let mut out = Writer(vec![MAGIC, VERSION, P::KERNEL as i32, 0]);
    plan.write(&mut out).unwrap();
    let mut numbers = out.0;
    numbers[HEADER - 1] = numbers.len() as i32;
    let error = P::decode(&numbers).unwrap_err();
    assert_eq!(error.to_string(), reason);
}

#[test]
fn what_no_kernel_computes_is_refused_on_both_sides() {
    refused(
        forward(pooling(3), true),
        "the skip: expected none before pooling, got one",
    );
    refused(
        forward(pooling(1), false),
        "pooling: expected a 3x3 convolution before it, got 1x1",
    );
    let row = Layer {
        height: 1,
        ..pooling(3)
    };
    refused(
        forward(row, false),
        "pooling: expected at least 2x2 pixels, got 1x9",
    );
    refused(
        backward(pooling(3), OutputGradient::Plain(Starts(50).next())),
        "the gradient: expected one behind pooling, got one without",
    );
    refused(
        backward(layer(3, 1), pooled()),
        "the gradient: expected one without pooling, got one behind it",
    );
    refused(
        backward(layer(3, 1), junction(false)),
        "the gradient: expected one put together, behind a 3x3 convolution, got a junction",
    );
    refused(
        forward(layer(3, 0), true),
        "the stride: expected at least 1, got 0",
    );
    refused(
        forward(layer(5, 1), false),
        "the convolution: expected 1x1 or 3x3, got 5x5",
    );
    let narrow = Layer {
        inputs: 24,
        ..layer(1, 1)
    };
    refused(
        forward(narrow, false),
        "input channels: expected a multiple of 16, got 24",
    );
}

#[test]
fn layers_that_do_not_fit_together_are_refused_on_both_sides() {
    let with = |change: &dyn Fn(&mut Vec<InferenceLayer>), reason: &str| {
        let mut plan = inference();
        change(&mut plan.layers);
        refused(plan, reason);
    };
    with(&Vec::clear, "the layers: expected at least one, got 0");
    with(
        &|layers| layers[0].input = 1,
        "the first layer's value: expected number 0, got 1",
    );
    with(
        &|layers| layers[1].input = 2,
        "a layer's value: expected one of an earlier layer, got 2",
    );
    with(
        &|layers| layers[2].layer.images = 6,
        "a layer's images: expected those of the first, got 6 of F32",
    );
    with(
        &|layers| layers[2].layer.format = Format::Bf16,
        "a layer's images: expected those of the first, got 5 of Bf16",
    );
    with(
        &|layers| layers[2].input = 1,
        "a layer's input: expected the dimensions that it says, got [5, 7, 9, 48]",
    );
    with(
        &|layers| layers[1].layer.side = 5,
        "the convolution: expected 1x1 or 3x3, got 5x5",
    );
    let added = |value, stride| Some(Added { value, stride });
    with(
        &|layers| layers[2].added = added(1, 0),
        "the stride of what is added: expected at least 1, got 0",
    );
    with(
        &|layers| layers[2].added = added(1, 1),
        "what is added: expected pixels and channels of the result, got 7x9x48",
    );
    with(
        &|layers| layers[1].added = added(1, 2),
        "what is added: expected pixels and channels of the result, got 7x9x48",
    );
    with(
        &|layers| layers[2].added = added(3, 1),
        "a layer's value: expected one of an earlier layer, got 3",
    );
    with(
        &|layers| {
            layers[1].layer.pools = true;
            layers[1].added = added(0, 1);
        },
        "what is added: expected nothing before pooling, got a value",
    );
}

#[test]
fn a_stem_gives_what_the_first_layer_reads() {
    let with = |change: &dyn Fn(&mut Stem), reason: &str| {
        let mut plan = with_stem();
        plan.stem.iter_mut().for_each(change);
        refused(plan, reason);
    };
    let none = "the stem's side, stride and channels: expected at least 1, got 0";
    with(&|stem| stem.side = 0, none);
    with(&|stem| stem.stride = 0, none);
    with(&|stem| stem.image[2] = 0, none);
    let wide = "the stem's side and stride: expected at most 64, got 65";
    with(&|stem| stem.side = 65, wide);
    with(&|stem| stem.stride = 65, wide);
    let large = "the stem's rows, columns and channels: expected at most 65536, got 65537";
    for axis in 0..3 {
        with(&|stem| stem.image[axis] = 65_537, large);
    }
    with(
        &|stem| stem.stride = 1,
        "the stem's result: expected the first layer's input, got 13x18",
    );
    // A border of 3 pixels around 13 rows, and of 2 and 3 beside 18 columns.
    let stem = with_stem().stem.unwrap();
    assert_eq!((stem.covered(), stem.border()), ([19, 23], [3, 2]));
}

#[test]
fn a_format_that_does_not_exist_is_refused() {
    let mut numbers = forward(layer(1, 1), true).encode().unwrap();
    // The last number of the layer.
    numbers[HEADER + 8] = 2;
    let error = LayerForward::decode(&numbers).unwrap_err().to_string();
    assert_eq!(
        error,
        "the number format: expected 0 for f32 or 1 for bf16, got 2"
    );
}

#[test]
fn images_are_of_the_layers_format_and_sums_of_f32() {
    let bf16 = |layer| Layer {
        format: Format::Bf16,
        ..layer
    };
    let images = |dims: [usize; 4]| Array::of(Format::Bf16, &dims);
    let plan = forward(bf16(layer(1, 2)), true);
    let expected = [images([5, 4, 5, 48]), Array::f32(&[2 * 48])];
    assert_eq!(plan.results(), expected);
    let row = into_row(bf16(layer(1, 2)));
    let rows = Array::of(Format::Bf16, &[9, 5, 4, 5, 48]);
    assert_eq!(row.results(), [rows, Array::f32(&[2 * 48])]);
    assert_eq!((plan.in_place(), row.in_place()), (None, Some(203)));
    let pooled = forward(bf16(pooling(3)), false);
    let y = images([5, 3, 4, 48]);
    assert_eq!(
        pooled.results(),
        [y.clone(), Array::f32(&[2 * 48]), y.clone()]
    );
    assert_eq!(inference().results(), [Array::f32(&[5, 4, 5, 48])]);
    let back = backward(bf16(layer(3, 1)), OutputGradient::Plain(Starts(50).next()));
    let kernel = Array::f32(&[3, 3, 16, 48]);
    let expected = [images([5, 7, 9, 16]), Array::f32(&[2 * 16]), kernel];
    assert_eq!(back.results(), expected);
    assert_eq!(back.in_place(), None);
    let back = backward(bf16(layer(1, 2)), junction(true));
    let (dy, kernel) = (images([5, 4, 5, 48]), Array::f32(&[1, 1, 16, 48]));
    let expected = [dy, images([5, 7, 9, 16]), Array::f32(&[2 * 16]), kernel];
    assert_eq!(back.results(), expected);
    // The ninth of its starts.
    assert_eq!(back.in_place(), Some(50 + 9 * 3));
}

#[test]
fn a_batch_beyond_the_range_of_a_number_is_refused() {
    let huge = Layer {
        images: 1 << 31,
        ..layer(1, 1)
    };
    let error = forward(huge, false).encode().unwrap_err();
    assert_eq!(error, PlanError::TooLarge { number: 1 << 31 });
    assert!(error.to_string().contains("--batch-size"), "{error}");
}
