//! The equal units of a stage as loops in one XLA program.
//!
//! All units of a stage but the first do the same with tensors of the same sizes. Traced one by one,
//! the compiler works through each of them; in a loop it meets one, and the program no longer grows
//! with the depth.
//!
//! A loop runs one round for each unit. What belongs to the unit of round i is row i of an array that
//! has a row for each unit:
//!
//! ```text
//!  weights, moving statistics ──► row i ─┐                                     cut out of the state
//!  x  ──► unit forward  ──► x, and each layer's input[i], statistics[i]        rounds 0, 1, .. n-1
//!  dx ──► unit backward ──► dx, and gradients[i]                               rounds n-1, .. 1, 0
//! ```
//!
//! The flat arrays of the state hold equal units one after another, so these rows of weights and
//! gradients are simply slices of the arrays.
//!
//! `fused.rs` has the same loops on the CPU's kernels.

use xla::{XlaBuilder, XlaOp};

use crate::arrays::{dims_of, to_i64};
use crate::collective::Replicas;
use crate::error::Result;
use crate::loops::{Values, empty, from_the_end, read, repeat, write};
use crate::network::unit::Unit;
use crate::table::{Role, TensorSpec};
use crate::tensors::{Place, Tensors};

pub(crate) const KERNELS: Role = Role::Weight { decays: true };
pub(crate) const NORMS: Role = Role::Weight { decays: false };
pub(crate) const STATISTICS: Role = Role::MovingStatistic;

/// Units of a stage that differ in nothing but their names: at least one.
#[derive(Clone, Copy)]
pub(crate) struct EqualUnits<'a>(&'a [Unit]);

/// What the backward pass needs of the units of a loop. Each array has a row for each unit.
#[derive(Clone)]
pub(crate) struct Kept {
    /// What [`Unit::kept_dims`] lists, the inputs of the layers first: an array for each.
    pub inputs: Vec<XlaOp>,
    /// The batch's statistics, in the order of the moving ones.
    pub statistics: XlaOp,
}

impl<'a> EqualUnits<'a> {
    /// `units`, which must be equal but for their names.
    pub fn new(units: &'a [Unit]) -> Self {
        Self(units)
    }

    /// All of them.
    pub fn all(self) -> &'a [Unit] {
        self.0
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.len()
    }

    /// The first of them. In a loop its names stand for those of the unit of the round.
    pub fn unit(self) -> &'a Unit {
        &self.0[0]
    }

    /// The tensors of [`Self::unit`] of one role, in the order in which the flat arrays hold them.
    fn tensors(self, role: Role) -> Vec<TensorSpec> {
        tensors_of(&self.0[..1], role)
    }

    /// Kernels, gammas and betas, moving statistics of the units: a row for each unit. The flat arrays
    /// hold tensors of one role together, those of equal units one after another.
    pub fn rows(self, params: &Tensors) -> Result<[XlaOp; 3]> {
        let [kernels, norms, statistics] =
            [KERNELS, NORMS, STATISTICS].map(|role| -> Result<XlaOp> {
                let tensors = self.tensors(role);
                let row: usize = tensors.iter().map(TensorSpec::len).sum();
                let home = params.home(&tensors[0].name)?;
                let (start, end) = (home.offset, home.offset + self.count() * row);
                let all = home.array.slice_in_dim(start as i64, end as i64, 1, 0)?;
                Ok(all.reshape(&to_i64(&[self.count(), row]))?)
            });
        Ok([kernels?, norms?, statistics?])
    }

    /// The weights and moving statistics of the unit of `round`, out of [`Self::rows`].
    pub fn params(self, rows: &[XlaOp; 3], round: &XlaOp) -> Result<Tensors> {
        let mut params = Tensors::new();
        for (role, rows) in [KERNELS, NORMS, STATISTICS].into_iter().zip(rows) {
            self.insert_row(role, rows, round, &mut params)?;
        }
        Ok(params)
    }

    /// The batch's statistics of the unit of `round`, under the names of the moving ones.
    pub fn statistics(self, statistics: &XlaOp, round: &XlaOp) -> Result<Tensors> {
        let mut batch = Tensors::new();
        self.insert_row(STATISTICS, statistics, round, &mut batch)?;
        Ok(batch)
    }

    /// Puts the tensors of `role` in row `round` of `rows` into `tensors`.
    fn insert_row(
        self,
        role: Role,
        rows: &XlaOp,
        round: &XlaOp,
        tensors: &mut Tensors,
    ) -> Result<()> {
        let home = Place {
            round: Some((round.clone(), rows.dims()?[1])),
            ..Place::new(rows, 0)
        };
        tensors.insert_parts(&self.tensors(role), &read(rows, round)?, &home)
    }

    /// The tensors of `role` among those of [`Self::unit`], one after another: a row.
    pub fn row(self, role: Role, tensors: &Tensors) -> Result<XlaOp> {
        tensors.join(&self.tensors(role))
    }

    /// An f32 array for a row of `role` of each unit.
    pub fn empty_rows(self, role: Role, builder: &XlaBuilder) -> Result<XlaOp> {
        let row: usize = self.tensors(role).iter().map(TensorSpec::len).sum();
        empty(&builder.c0(0f32)?, &[self.count(), row])
    }

    /// Puts the `rows` of `role` of all units into `tensors`, as a block.
    pub fn insert_rows(self, role: Role, rows: &XlaOp, tensors: &mut Tensors) -> Result<()> {
        tensors.insert_block(&tensors_of(self.0, role), rows.clone())
    }
}

/// The tensors of `units` of one role, in the order in which the flat arrays hold them.
fn tensors_of(units: &[Unit], role: Role) -> Vec<TensorSpec> {
    let mut tensors: Vec<_> = units.iter().flat_map(Unit::tensors).collect();
    tensors.retain(|spec| spec.role == role);
    tensors
}

impl EqualUnits<'_> {
    /// The units one after the other, `[N, H, W, C]` to the same dimensions; see [`Unit::forward`].
    pub fn forward(
        self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Kept)> {
        let unit = self.unit();
        let dims = unit.kept_dims(dims_of(x, "[N, H, W, C]")?);
        let stacks = dims
            .into_iter()
            .map(|[n, h, w, c]| empty(x, &[self.count(), n, h, w, c]));
        let carried = Values {
            list: stacks.collect::<Result<_>>()?,
            each: [x.clone(), self.empty_rows(STATISTICS, x.builder())?],
        };
        let end = repeat(
            self.count(),
            carried,
            self.rows(params)?.into(),
            |i, before, rows| {
                let [x, statistics] = before.each;
                let params = self.params(&rows.each, i)?;
                let mut batch = Tensors::new();
                let (y, saved) = unit.forward(&params, &x, replicas, &mut batch)?;
                let stacks = before.list.iter().zip(saved.kept());
                let stacks = stacks.map(|(stack, kept)| write(stack, i, kept));
                Ok(Values {
                    list: stacks.collect::<Result<_>>()?,
                    each: [y, write(&statistics, i, &self.row(STATISTICS, &batch)?)?],
                })
            },
        )?;
        let [y, statistics] = end.each;
        self.insert_rows(STATISTICS, &statistics, batch)?;
        let kept = Kept {
            inputs: end.list,
            statistics,
        };
        Ok((y, kept))
    }

    /// The backward pass through [`Self::forward`], from `dy` to dx; see [`Unit::backward`].
    pub fn backward(
        self,
        params: &Tensors,
        kept: &Kept,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let unit = self.unit();
        self.go_back(
            params,
            kept,
            dy,
            gradients,
            |i, params, kept, dy, gradients| {
                let batch = self.statistics(&kept.statistics, i)?;
                let inputs = kept.inputs.iter().map(|stack| read(stack, i));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let saved = unit.saved(params, &inputs, replicas, &batch)?;
                unit.backward(params, &saved, dy, replicas, gradients)
            },
        )
    }

    /// From `dy` to dx, from the last unit to the first. `unit` does it for the unit of one round,
    /// with its weights and its gradients by the names of [`Self::unit`].
    pub fn go_back(
        self,
        params: &Tensors,
        kept: &Kept,
        dy: &XlaOp,
        gradients: &mut Tensors,
        unit: impl FnOnce(&XlaOp, &Tensors, &Kept, &XlaOp, &mut Tensors) -> Result<XlaOp>,
    ) -> Result<XlaOp> {
        let carried = [
            dy.clone(),
            self.empty_rows(KERNELS, dy.builder())?,
            self.empty_rows(NORMS, dy.builder())?,
        ];
        let [kernels, norms, moving] = self.rows(params)?;
        let fixed = Values {
            each: [kernels, norms, moving, kept.statistics.clone()],
            list: kept.inputs.clone(),
        };
        let end = repeat(
            self.count(),
            carried.into(),
            fixed,
            |round, before, fixed| {
                let [dy, kernel_rows, norm_rows] = before.each;
                let [kernels, norms, moving, statistics] = fixed.each;
                let i = &from_the_end(self.count(), round)?;
                let params = self.params(&[kernels, norms, moving], i)?;
                let kept = Kept {
                    inputs: fixed.list,
                    statistics,
                };
                let mut gradients = Tensors::new();
                let dx = unit(i, &params, &kept, &dy, &mut gradients)?;
                let after = [
                    dx,
                    write(&kernel_rows, i, &self.row(KERNELS, &gradients)?)?,
                    write(&norm_rows, i, &self.row(NORMS, &gradients)?)?,
                ];
                Ok(after.into())
            },
        )?;
        let [dx, kernels, norms] = end.each;
        self.insert_rows(KERNELS, &kernels, gradients)?;
        self.insert_rows(NORMS, &norms, gradients)?;
        Ok(dx)
    }

    /// The units one after the other, with moving statistics: see [`Unit::infer`].
    pub fn infer(self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let end = repeat(
            self.count(),
            [x.clone()].into(),
            self.rows(params)?.into(),
            |i, before, rows| {
                let [x] = before.each;
                let params = self.params(&rows.each, i)?;
                Ok([self.unit().infer(&params, &x)?].into())
            },
        )?;
        let [y] = end.each;
        Ok(y)
    }
}
