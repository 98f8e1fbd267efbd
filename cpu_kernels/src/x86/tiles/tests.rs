//! Products on tiles, emulated and, where the processor has them, real, against sums of f64 and other instruction sets.

use half::bf16;

use super::emulation::Emulation;
use super::*;
use crate::isa::Isa;
use crate::x86::format::Bf16;
use crate::x86::gemm::{Depth, Left, Right};
use crate::x86::sets;

/// Rows, panels, segments and elements of each: less than a tile, just one, and more.
const SIZES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [16, 1, 1, 16],
    [5, 2, 3, 8],
    [17, 3, 2, 24],
    [33, 1, 3, 16],
    [70, 5, 1, 37],
    [96, 2, 2, 8],
    [20, 7, 3, 5],
    [130, 1, 2, 17],
];

/// Elements of the arrays, between those that a product should touch.
const GAP: usize = 3;

/// A pair of bf16 that are no numbers.
const NO_PAIR: f32 = f32::from_bits(0x7fc0_7fc0);

/// A product, and its factors in arrays in which all else is not a number.
struct Case {
    left: Vec<f32>,
    right: Vec<f32>,
    sizes: [usize; 4],
    /// Whether the rows of the left factor lie along the summed axis.
    along: bool,
}

impl Case {
    /// `value` gives the values of the factors one by one.
    fn new(sizes: [usize; 4], along: bool, mut value: impl FnMut() -> f32) -> Self {
        let [rows, panels, segments, length] = sizes;
        let mut case = Self {
            left: Vec::new(),
            right: Vec::new(),
            sizes,
            along,
        };
        let mut pair = || {
            let [even, odd] = [value(), value()].map(|x| u32::from(bf16::from_f32(x).to_bits()));
            f32::from_bits(even | odd << 16)
        };
        for segment in 0..segments {
            for k in 0..length {
                for row in 0..rows {
                    let at = case.left_at(row, segment, k);
                    set(&mut case.left, at, pair());
                }
                for column in 0..panels * PANEL {
                    let at = case.right_at(column, segment, k);
                    set(&mut case.right, at, pair());
                }
            }
        }
        case
    }

    fn product(&self) -> Product<'_> {
        let [rows, panels, segments, length] = self.sizes;
        Product {
            left: Left {
                data: &self.left,
                ..self.left_layout()
            },
            right: Right {
                data: &self.right,
                ..self.right_layout()
            },
            depth: Depth { segments, length },
            rows,
            panels,
        }
    }

    fn left_layout(&self) -> Left<'static> {
        let [rows, _, _, length] = self.sizes;
        let (row, step, segment) = match self.along {
            true => (length + GAP, 1, rows * (length + GAP)),
            false => (1, rows + GAP, length * (rows + GAP)),
        };
        Left {
            data: &[],
            row,
            step,
            segment,
        }
    }

    fn right_layout(&self) -> Right<'static> {
        let [_, panels, segments, length] = self.sizes;
        let (step, segment) = match self.along {
            true => (PANEL, length * PANEL + GAP),
            false => (panels * PANEL + GAP, length * (panels * PANEL + GAP)),
        };
        Right {
            data: &[],
            step,
            segment,
            panel: if self.along {
                segments * segment
            } else {
                PANEL
            },
        }
    }

    fn left_at(&self, row: usize, segment: usize, k: usize) -> usize {
        let left = self.left_layout();
        row * left.row + segment * left.segment + k * left.step
    }

    fn right_at(&self, column: usize, segment: usize, k: usize) -> usize {
        let right = self.right_layout();
        let panel = column / PANEL * right.panel + column % PANEL;
        panel + segment * right.segment + k * right.step
    }

    /// Each result in f64, and the sum of what its terms are without their signs.
    fn in_f64(&self) -> Vec<[f64; 2]> {
        let [rows, panels, segments, length] = self.sizes;
        let mut sums = Vec::new();
        for row in 0..rows {
            for column in 0..panels * PANEL {
                let mut sum = [0.0; 2];
                for (segment, k) in (0..segments).flat_map(|s| (0..length).map(move |k| (s, k))) {
                    let a = values(self.left[self.left_at(row, segment, k)]);
                    let b = values(self.right[self.right_at(column, segment, k)]);
                    for (a, b) in a.iter().zip(b) {
                        sum[0] += a * b;
                        sum[1] += (a * b).abs();
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }

    /// What `compute` writes to an array of `before`, or adds to it. It must leave alone what lies between the rows.
    fn results(&self, before: f32, compute: impl FnOnce(&Product, &mut [f32], usize)) -> Vec<f32> {
        let [rows, panels, ..] = self.sizes;
        let (columns, out_row) = (panels * PANEL, panels * PANEL + GAP);
        let mut out = vec![before; rows * out_row];
        compute(&self.product(), &mut out, out_row);
        let mut results = Vec::new();
        for row in out.chunks(out_row) {
            results.extend_from_slice(&row[..columns]);
            assert_eq!(row[columns..], [before; GAP]);
        }
        results
    }

    fn emulated(&self, before: f32, add: bool) -> Vec<f32> {
        self.results(before, |product, out, out_row| {
            let task = OnTiles {
                product,
                tiles: Emulation::default(),
                out,
                places: Places::rows(out_row),
                add,
                ahead: None,
            };
            sets::run::<Bf16, _>(Isa::Avx2, task);
        })
    }

    fn on_set(&self, isa: Isa, before: f32, add: bool) -> Vec<f32> {
        self.results(before, |product, out, out_row| {
            let task = OnSet {
                product,
                out,
                out_row,
                add,
            };
            sets::run::<Bf16, _>(isa, task);
        })
    }
}

/// Puts `value` at a place of an array, which grows as it must.
fn set(array: &mut Vec<f32>, at: usize, value: f32) {
    if array.len() <= at {
        array.resize(at + 1, NO_PAIR);
    }
    array[at] = value;
}

fn values(pair: f32) -> [f64; 2] {
    let bits = pair.to_bits();
    [bits << 16, bits & 0xffff_0000].map(|bits| f64::from(f32::from_bits(bits)))
}

struct OnSet<'a> {
    product: &'a Product<'a>,
    out: &'a mut [f32],
    out_row: usize,
    add: bool,
}

impl Task for OnSet<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        self.product
            .compute::<S, Bf16>(set, self.out, self.out_row, self.add);
    }
}

/// Whole numbers from 0 to `most`.
fn whole_numbers(most: u32) -> impl FnMut() -> u32 {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % (most + 1)
    }
}

/// Numbers of many sizes, of both signs, none denormal.
fn noise() -> impl FnMut() -> f32 {
    let mut next = whole_numbers(0xff_ffff);
    move || {
        let bits = next();
        let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
        let size = 2f32.powi((bits >> 1 & 7) as i32 - 4);
        sign * size * (1.0 + (bits >> 4) as f32 / (1 << 20) as f32)
    }
}

/// Whether there are kernels to run any product with.
fn has_kernels() -> bool {
    let any = Isa::Avx2.is_present();
    if !any {
        println!("skipped: this processor has no AVX2");
    }
    any
}

/// Whether the same can be asked of real tiles.
fn has_amx() -> bool {
    let present = Isa::Amx.is_present();
    if !present {
        println!("skipped: this processor has no AMX");
    }
    present
}

#[test]
fn where_sums_are_exact_every_result_is_that_of_f64_and_of_all_sets() {
    if !has_kernels() {
        return;
    }
    has_amx();
    let present = |isa: &Isa| *isa != Isa::Generic && isa.is_present();
    let sets: Vec<Isa> = Isa::ALL.into_iter().filter(present).collect();
    for sizes in SIZES {
        for along in [true, false] {
            let mut next = whole_numbers(16);
            let case = Case::new(sizes, along, || next() as f32 - 8.0);
            let exact: Vec<f32> = case.in_f64().iter().map(|sum| sum[0] as f32).collect();
            let added: Vec<f32> = exact.iter().map(|sum| sum + 5.0).collect();
            assert_eq!(case.emulated(5.0, false), exact, "{sizes:?} {along}");
            assert_eq!(case.emulated(5.0, true), added, "{sizes:?} {along}");
            for isa in &sets {
                let said = format!("{isa} {sizes:?} {along}");
                assert_eq!(case.on_set(*isa, 5.0, false), exact, "{said}");
                assert_eq!(case.on_set(*isa, 5.0, true), added, "{said}");
            }
        }
    }
}

#[test]
fn a_sum_is_as_near_to_that_of_f64_as_its_roundings_allow() {
    if !has_kernels() {
        return;
    }
    let has_amx = has_amx();
    for sizes in SIZES {
        let case = Case::new(sizes, sizes[0] % 2 == 0, noise());
        let emulated = case.emulated(0.0, false);
        // No term goes through more roundings than there are terms, and the two of a tile's end.
        let roundings = 2 * sizes[2] * sizes[3] + 2 * sizes[2];
        for (got, [sum, terms]) in emulated.iter().zip(case.in_f64()) {
            let bound = roundings as f64 * f64::from(f32::EPSILON) / 2.0 * terms;
            let apart = (f64::from(*got) - sum).abs();
            assert!(apart <= bound, "{sizes:?}: {got} for {sum}");
        }
        if has_amx {
            let real = case.on_set(Isa::Amx, 0.0, false);
            assert_eq!(
                real, emulated,
                "{sizes:?}: rounded otherwise than described"
            );
        }
    }
}

/// With one pair there is no order of the sum that could differ.
#[test]
fn one_pair_gives_the_bits_of_the_other_sets() {
    if !has_kernels() {
        return;
    }
    for rows in [1, 16, 50] {
        let case = Case::new([rows, 3, 1, 1], true, noise());
        let other = case.on_set(Isa::Avx2, 0.5, true);
        assert_eq!(case.emulated(0.5, true), other);
    }
}

#[test]
fn the_operations_of_a_measurement_are_four_for_each_pair_of_each_product() {
    // 16 rows, 16 columns and 16 pairs in each of 4 products.
    let expected = 4 * 16 * 16 * 16 * 4 * 5;
    assert_eq!(multiply_adds(Emulation::default(), 5), expected);
}
