//! The batch norm behind a layer, alone and where two branches meet.

use super::common::sets;
use super::{
    Bf16, Case, F32, NormGradient, OutputGradient, PlainNorm, Stored, cases, in_f64, norm,
    whole_numbers,
};

/// A batch norm behind a case's layer, with the sums for its gradient.
pub struct Behind {
    pub norm: PlainNorm,
    pub dgamma: Vec<f32>,
    pub dbeta: Vec<f32>,
}

/// Values that the sums run over.
pub const COUNT: f32 = 2.0;

impl Behind {
    pub fn new(channels: usize) -> Self {
        Self {
            norm: PlainNorm::new(20, channels),
            dgamma: whole_numbers(23, channels, 1),
            dbeta: whole_numbers(24, channels, 1),
        }
    }

    pub fn gradient(&self) -> NormGradient {
        NormGradient::new(&self.norm.norm(), &self.dbeta, &self.dgamma, COUNT)
    }

    /// The gradient of its input `x` by the definition, from `dz`, that of its result.
    pub fn backward(&self, x: &[f32], dz: &[f64]) -> Vec<f64> {
        let channels = self.dgamma.len();
        let dx = x.iter().zip(dz).enumerate().map(|(index, (x, dz))| {
            let c = index % channels;
            let x_hat = f64::from(x - self.norm.mean[c]) * 2.0;
            let mean_parts = f64::from(self.dbeta[c]) + x_hat * f64::from(self.dgamma[c]);
            2.0 * f64::from(self.norm.gamma[c]) * (dz - mean_parts / f64::from(COUNT))
        });
        dx.collect()
    }
}

fn backwards_behind_norm<F: Stored>() {
    for case in cases() {
        let behind = Behind::new(case.layer.outputs);
        let dy = behind.backward(&case.skip, &in_f64(&case.dy));
        // As the products take it.
        let dy: Vec<f64> = dy.into_iter().map(F::rounded).collect();
        let exact = case.backward::<F>(&dy);
        let in_f32: Vec<f32> = dy.iter().map(|value| *value as f32).collect();
        for isa in sets() {
            // Where sums are not exact, they are those of the gradient in front of the norm.
            let expected = match case.is_exact_on::<F>(isa) {
                true => exact.clone(),
                false => case.backward_on::<F>(isa, &OutputGradient::Plain(&F::lanes(&in_f32))),
            };
            let gradient: OutputGradient<F> = OutputGradient::BehindNorm {
                norm: behind.gradient(),
                dz: &F::lanes(&case.dy),
                x: &F::lanes(&case.skip),
            };
            let got = case.backward_on::<F>(isa, &gradient);
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got, expected, "{isa}: {:?}", case.layer);
            }
        }
    }
}

#[test]
fn a_gradient_goes_through_the_norm_behind_a_layer() {
    backwards_behind_norm::<F32>();
    backwards_behind_norm::<Bf16>();
}

/// The gradient out of two branches, of which one goes through `behind`, as it is stored.
fn put_together<F: Stored>(case: &Case, behind: &Behind, added: &[f32], joined: bool) -> Vec<f64> {
    let plus = |values: &[f64]| -> Vec<f64> {
        let pairs = values.iter().zip(added);
        pairs
            .map(|(value, added)| value + f64::from(*added))
            .collect()
    };
    let dz = in_f64(&case.dy);
    let dy = match joined {
        true => behind.backward(&case.skip, &plus(&dz)),
        false => plus(&behind.backward(&case.skip, &dz)),
    };
    dy.into_iter().map(F::rounded).collect()
}

fn junctions<F: Stored>(joined: bool) {
    for case in cases() {
        let behind = Behind::new(case.layer.outputs);
        let added = whole_numbers(25, case.dy.len(), 2);
        let dy = put_together::<F>(&case, &behind, &added, joined);
        let expected = case.backward::<F>(&dy);
        let (dz, x) = (F::lanes(&case.dy), F::lanes(&case.skip));
        for isa in sets() {
            let mut alone = F::lanes(&added);
            norm::backward::<F>(isa, &behind.gradient(), &dz, &x, joined, &mut alone);
            assert_eq!(F::in_f64(&alone), dy, "{isa}: {:?}", case.layer);
            if case.layer.side != 1 {
                continue;
            }
            let gradient: OutputGradient<F> = OutputGradient::Junction {
                norm: behind.gradient(),
                dz: &dz,
                x: &x,
                joined,
            };
            let mut sum = F::lanes(&added);
            let got = case.backward_from(isa, &gradient, &mut sum);
            assert_eq!(F::in_f64(&sum), dy, "{isa}: {:?}", case.layer);
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got, expected, "{isa}: {:?}", case.layer);
            }
        }
    }
}

#[test]
fn two_branches_meet_alone_and_in_front_of_a_1x1_layer() {
    for joined in [false, true] {
        junctions::<F32>(joined);
        junctions::<Bf16>(joined);
    }
}
