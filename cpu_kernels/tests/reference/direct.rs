//! Layers that are computed directly, on numbers that are rounded: how far from f64 they may be, and that all sets round them
//! alike.
//!
//! docs/numerics.md derives the bounds: a unit of 2^-24 for each term of a sum, and in bf16 one of 2^-8 for each factor, of
//! the sum of the sizes of all terms.

use super::bound::{Bound, exact_in};
use super::common::{noise, sets};
use super::{
    Bf16, Case, F32, Isa, NormGradient, OutputGradient, PlainNorm, Stored, TILE, check_moments,
    in_f64, norm,
};

/// Images whose sizes divide nothing evenly, with more images than tasks and more pixels than a tile.
const IMAGES: [[usize; 3]; 4] = [[3, 5, 7], [2, 33, 3], [19, 4, 4], [1, 1, 1]];
/// Of kernels: side and stride. 3x3 layers without a stride are computed in Winograd's tiles, but on AMX in bf16.
const SHAPES: [[usize; 2]; 4] = [[1, 1], [1, 2], [3, 2], [3, 3]];

fn all_cases<F: Stored>() -> Vec<Case> {
    let mut cases = vec![noisy_case::<F>([2, 5, 6], [80, 16], [1, 1])];
    for images in IMAGES {
        cases.extend(SHAPES.map(|shape| noisy_case::<F>(images, [32, 48], shape)));
    }
    cases
}

/// A layer on noise, whose images the format holds. Its normalisation has a few digits: its result is exact in f32, where no
/// activation lies on the other side of its kink, but not in bf16.
fn noisy_case<F: Stored>(images: [usize; 3], channels: [usize; 2], shape: [usize; 2]) -> Case {
    let case = Case::new(images, channels, shape);
    let (x, kernel, dy) = (case.x.len(), case.kernel.len(), case.dy.len());
    let digits = |seed, most: f32| -> Vec<f32> {
        let values = noise(seed, channels[0]).into_iter();
        values.map(|v| (v * most * 256.0).round() / 256.0).collect()
    };
    Case {
        norm: PlainNorm {
            mean: digits(5, 0.5),
            beta: digits(6, 0.25),
            ..case.norm
        },
        x: exact_in::<F>(&noise(1, x)),
        kernel: noise(2, kernel),
        skip: exact_in::<F>(&noise(3, dy)),
        dy: exact_in::<F>(&noise(4, dy)),
        ..case
    }
}

/// `case` without the signs of what is multiplied and added: its results are the sums of the sizes of all terms. No
/// activation has a sign.
fn sizes_of(case: &Case) -> Case {
    let sizes = |values: &[f32]| values.iter().map(|v| v.abs()).collect();
    Case {
        layer: case.layer,
        norm: case.norm.clone(),
        x: case.x.clone(),
        kernel: sizes(&case.kernel),
        skip: sizes(&case.skip),
        dy: sizes(&case.dy),
    }
}

fn check<F: Stored>(case: &Case, sets: &[Isa]) {
    let (layer, sizes) = (&case.layer, sizes_of(case));
    let taps = layer.side * layer.side;
    let pixels = layer.images * layer.output_pixels();
    let (y, y_terms) = (case.forward(), sizes.forward());
    let dy = in_f64(&case.dy);
    let [dz, _, _, kernel] = case.backward::<F32>(&dy);
    let [dz_terms, _, _, kernel_terms] = sizes.backward::<F32>(&in_f64(&sizes.dy));
    for isa in sets.iter().copied() {
        let name = |result| format!("{isa}, {:?}, {layer:?}, {result}", F::FORMAT);
        // On tiles, two roundings end each product, which has a pair of terms at least.
        let sum_of = |terms, factors| match isa {
            Isa::Amx => Bound::new::<F>(2 * terms, factors),
            _ => Bound::new::<F>(terms, factors),
        };
        let (got, moments, _) = case.forward_on::<F>(isa);
        // Activations and weights are rounded; the skip is one term more.
        let bound = sum_of(taps * layer.inputs + 1, 2).stored();
        bound.check(&name("y"), &got, &y, &y_terms);
        check_moments(&got, &moments, layer.output_pixels().max(TILE));

        let plain = &OutputGradient::Plain(&F::lanes(&case.dy));
        let [got_dz, dgamma, dbeta, got_kernel] = case.backward_on::<F>(isa, plain);
        let bound = sum_of(taps * layer.outputs, 1).stored();
        bound.check(&name("dz"), &got_dz, &dz, &dz_terms);
        // The pixels in runs, each added to the sum of its task, and those of 16 tasks.
        let bound = sum_of(pixels + 1 + 16, 1);
        bound.check(&name("kernel"), &got_kernel, &kernel, &kernel_terms);
        check_sums(case, &got_dz, [&dgamma, &dbeta], &name("sums"));
    }
}

/// Whether dgamma and dbeta are the sums of `dz` as it is stored.
fn check_sums(case: &Case, dz: &[f64], [dgamma, dbeta]: [&[f64]; 2], name: &str) {
    let channels = case.layer.inputs;
    let zeros = || vec![0.0; channels];
    let mut sums = [zeros(), zeros()];
    let mut terms = [zeros(), zeros()];
    for (index, dz) in dz.iter().enumerate() {
        let c = index % channels;
        let apart = f64::from(case.x[index] - case.norm.mean[c]) * 2.0;
        for (which, term) in [dz * apart, *dz].into_iter().enumerate() {
            sums[which][c] += term;
            terms[which][c] += term.abs();
        }
    }
    // One rounding more for the result.
    let bound = Bound::new::<F32>(dz.len() / channels + 1, 0);
    bound.check(name, dgamma, &sums[0], &terms[0]);
    bound.check(name, dbeta, &sums[1], &terms[1]);
}

#[test]
fn direct_layers_are_as_near_to_f64_as_the_roundings_of_their_sums_allow() {
    let check = |case: &Case| check::<F32>(case, &sets());
    all_cases::<F32>().iter().for_each(check);
}

#[test]
fn in_bf16_they_are_as_near_as_the_rounding_of_each_factor_allows() {
    let check = |case: &Case| check::<Bf16>(case, &sets());
    all_cases::<Bf16>().iter().for_each(check);
}

/// Among them images that lie together, with fewer pixels than a tile has rows, and wide kernels, of which some panels come
/// before others.
#[test]
fn on_amx_so_are_3x3_layers_without_a_stride() {
    let mut sets = sets();
    sets.retain(|isa| *isa == Isa::Amx);
    if sets.is_empty() {
        return;
    }
    let mut cases = vec![
        noisy_case::<Bf16>([300, 3, 2], [48, 16], [3, 1]),
        noisy_case::<Bf16>([2, 4, 4], [384, 160], [3, 1]),
        noisy_case::<Bf16>([35, 8, 8], [16, 48], [3, 1]),
    ];
    for images in IMAGES {
        cases.push(noisy_case::<Bf16>(images, [32, 48], [3, 1]));
    }
    for case in cases {
        check::<Bf16>(&case, &sets);
    }
}

/// A batch norm of `channels`, none of whose results is exact.
fn noisy_norm(seed: usize, channels: usize) -> PlainNorm {
    let [mean, variance, gamma, beta] = [0, 1, 2, 3].map(|n| noise(seed + n, channels));
    PlainNorm {
        mean,
        variance: variance.iter().map(|v| v.abs() + 0.5).collect(),
        gamma,
        beta,
    }
}

/// The same on the way back, with sums over a batch.
fn noisy_gradient(channels: usize) -> NormGradient {
    let [dgamma, dbeta] = [34, 35].map(|seed| noise(seed, channels));
    NormGradient::new(&noisy_norm(30, channels).norm(), &dbeta, &dgamma, 7.0)
}

/// The gradients of `case` on `isa` from `dy`, and what becomes of the other branch's gradient.
fn gradients<F: Stored>(case: &Case, isa: Isa, dy: &OutputGradient<F>) -> Vec<Vec<f64>> {
    let mut sum = match dy {
        OutputGradient::Junction { .. } => F::lanes(&noise(8, case.dy.len())),
        _ => Vec::new(),
    };
    let mut results = case.backward_from(isa, dy, &mut sum).to_vec();
    results.push(F::in_f64(&sum));
    results
}

/// Every result of `case` on `isa`: forwards, and from each kind of gradient.
fn all_results<F: Stored>(case: &Case, isa: Isa) -> Vec<Vec<f64>> {
    let (y, moments, chosen) = case.forward_on::<F>(isa);
    let (dy, x) = (F::lanes(&case.dy), F::lanes(&case.skip));
    let outputs = case.layer.outputs;
    let mut results = vec![y, in_f64(&moments)];
    if case.layer.pools {
        let numbers: Vec<f32> = chosen.iter().map(|number| *number as f32).collect();
        let pooled = OutputGradient::Pooled {
            dy: &dy[..chosen.len() / 16],
            chosen: &F::lanes(&numbers),
        };
        results.extend(gradients::<F>(case, isa, &pooled));
        results.push(chosen);
        return results;
    }
    let behind = OutputGradient::BehindNorm {
        norm: noisy_gradient(outputs),
        dz: &dy,
        x: &x,
    };
    results.extend(gradients::<F>(case, isa, &OutputGradient::Plain(&dy)));
    results.extend(gradients::<F>(case, isa, &behind));
    for joined in [false, true] {
        let mut alone = F::lanes(&noise(8, case.dy.len()));
        let norm = noisy_gradient(outputs);
        norm::backward::<F>(isa, &norm, &dy, &x, joined, &mut alone);
        results.push(F::in_f64(&alone));
        if case.layer.side == 1 {
            let junction = OutputGradient::Junction {
                norm,
                dz: &dy,
                x: &x,
                joined,
            };
            results.extend(gradients::<F>(case, isa, &junction));
        }
    }
    results
}

/// Checks that all sets give the bits that AVX2 gives; but AMX, which sums pairs of bf16 in another order.
fn check_bits<F: Stored>() {
    let mut cases = all_cases::<F>();
    let mut pooling = noisy_case::<F>([3, 9, 12], [32, 48], [3, 2]);
    pooling.layer.pools = true;
    cases.push(pooling);
    for mut case in cases {
        case.norm = noisy_norm(20, case.layer.inputs);
        let bits = |isa| -> Vec<Vec<u64>> {
            let results = all_results::<F>(&case, isa);
            let bits = |values: &Vec<f64>| values.iter().map(|v| v.to_bits()).collect();
            results.iter().map(bits).collect()
        };
        let mut expected = None;
        for isa in sets() {
            if F::VALUES > 1 && isa == Isa::Amx {
                continue;
            }
            let got = bits(isa);
            let expected = expected.get_or_insert_with(|| got.clone());
            for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
                assert!(got == expected, "{isa}: result {index} of {:?}", case.layer);
            }
        }
    }
}

#[test]
fn all_sets_give_direct_layers_the_same_bits_in_f32() {
    check_bits::<F32>();
}

#[test]
fn all_sets_give_direct_layers_the_same_bits_in_bf16() {
    check_bits::<Bf16>();
}
