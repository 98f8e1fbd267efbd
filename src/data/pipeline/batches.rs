//! Chooses the images of each batch and fills it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::data::dataset::{CHANNELS, Split};
use crate::data::pipeline::augment::{Augment, Transform};
use crate::data::pipeline::cutout::Cutout;
use crate::data::pipeline::mix::{self, Mix, Mixed};
use crate::data::pipeline::normalization::Normalization;
use crate::data::pipeline::order::epoch_order;
use crate::data::pipeline::resample::Resampler;

/// Images ready for the device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[B, side, side, 3]` (NHWC), normalised.
    pub images: Vec<f32>,
    /// `[B]`
    pub labels: Vec<i32>,
    /// `[B]`: 1 for an image, 0 for padding.
    pub weights: Vec<f32>,
    /// The number of images that are not padding; they come first. Those of the whole batch count, even if these are
    /// only a process's rows of it.
    pub count: usize,
    /// What each image is mixed of.
    pub mixed: Mixed,
    /// The global step that it is for, from 0.
    pub step: u64,
}

impl Batch {
    /// Resizes it for `batch_size` images of `image_len` values; old values stay until they are overwritten.
    fn resize(&mut self, batch_size: usize, image_len: usize) {
        self.images.resize(batch_size * image_len, 0.0);
        self.labels.resize(batch_size, 0);
        self.weights.resize(batch_size, 0.0);
    }

    /// Replaces all but the first `count` images by padding (zeros).
    fn pad_from(&mut self, count: usize) {
        let image_len = self.images.len() / self.labels.len();
        self.images[count * image_len..].fill(0.0);
        self.labels[count..].fill(0);
        self.weights[count..].fill(0.0);
    }

    /// Keeps the images `rows` and drops the others.
    fn keep(&mut self, rows: &Range<usize>) {
        if rows.len() == self.labels.len() {
            return;
        }
        let image_len = self.images.len() / self.labels.len();
        cut(
            &mut self.images,
            rows.start * image_len..rows.end * image_len,
        );
        cut(&mut self.labels, rows.clone());
        cut(&mut self.weights, rows.clone());
        cut(&mut self.mixed.labels, rows.clone());
        cut(&mut self.mixed.shares, rows.clone());
    }
}

/// Keeps the `part` of `values`, which has all of them or none.
fn cut<T>(values: &mut Vec<T>, part: Range<usize>) {
    values.truncate(part.end);
    values.drain(..part.start.min(values.len()));
}

/// How training iterates over a split.
#[derive(Clone, Copy, Debug)]
pub struct TrainingOptions {
    pub augment: Augment,
    /// Rows and columns of the square that each image loses; 0: none.
    pub cutout: usize,
    /// How images are mixed, if they are.
    pub mix: Option<Mix>,
    pub seed: u64,
    /// Images per step, at least 1.
    pub batch_size: usize,
    /// Whether each epoch has a new random order instead of file order.
    pub shuffle: bool,
    /// Steps per epoch, at least 1. `None`: the number of whole batches in the split.
    pub steps_per_epoch: Option<u64>,
}

/// How the images are transformed.
#[derive(Clone, Copy, Debug)]
enum Transforms {
    /// Each at random.
    Drawn(Augment),
    /// All in one way.
    Same(Transform),
}

/// Chooses the images for the batch of each step, and creates the batch.
#[derive(Debug)]
pub struct BatchSource {
    split: Arc<Split>,
    normalization: Normalization,
    transforms: Transforms,
    cutout: usize,
    mix: Option<Mix>,
    seed: u64,
    batch_size: usize,
    /// The images of each batch that are made here.
    rows: Range<usize>,
    shuffle: bool,
    steps_per_epoch: u64,
    /// Whether to start over at the end of the split (otherwise the batch is padded).
    repeat: bool,
    /// The number of the last used epoch, and its order.
    order: Mutex<Option<(u64, Arc<Vec<u32>>)>>,
}

impl BatchSource {
    /// Full batches only. Images beyond the last step of an epoch are left out; a split with too few starts over.
    pub fn training(
        split: Arc<Split>,
        normalization: Normalization,
        options: TrainingOptions,
    ) -> BatchSource {
        let whole_batches = (split.len() / options.batch_size) as u64;
        BatchSource {
            normalization,
            transforms: Transforms::Drawn(options.augment),
            cutout: options.cutout,
            mix: options.mix,
            seed: options.seed,
            batch_size: options.batch_size,
            rows: 0..options.batch_size,
            shuffle: options.shuffle,
            steps_per_epoch: options.steps_per_epoch.unwrap_or(whole_batches).max(1),
            repeat: true,
            order: Mutex::new(None),
            split,
        }
    }

    /// Every image once, in file order and not augmented. The last batch is padded.
    pub fn evaluation(
        split: Arc<Split>,
        normalization: Normalization,
        batch_size: usize,
    ) -> BatchSource {
        Self::of_view(split, normalization, batch_size, Transform::IDENTITY)
    }

    /// [`Self::evaluation`] of the images as `view` shows them.
    pub fn of_view(
        split: Arc<Split>,
        normalization: Normalization,
        batch_size: usize,
        view: Transform,
    ) -> BatchSource {
        let batches = split.len().div_ceil(batch_size) as u64;
        BatchSource {
            normalization,
            transforms: Transforms::Same(view),
            cutout: 0,
            mix: None,
            seed: 0,
            batch_size,
            rows: 0..batch_size,
            shuffle: false,
            steps_per_epoch: batches.max(1),
            repeat: false,
            order: Mutex::new(None),
            split,
        }
    }

    /// The same batches, of which only the share of number `part` of `parts` is made here. `parts` divides the batch
    /// size.
    pub fn share(self, part: usize, parts: usize) -> BatchSource {
        let share = self.batch_size / parts;
        BatchSource {
            rows: part * share..(part + 1) * share,
            ..self
        }
    }

    /// Images in a whole batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The number of images to choose from.
    pub fn images(&self) -> usize {
        self.split.len()
    }

    /// The number of batches in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Fills `batch` for a global step (counted from 0 over all epochs). The result depends only on the step, not on
    /// the old content of the batch.
    pub fn fill(&self, step: u64, batch: &mut Batch) {
        let epoch = step / self.steps_per_epoch;
        let first = (step % self.steps_per_epoch) as usize * self.batch_size;
        let order = self.order_of(epoch);
        let side = self.split.side();
        let image_len = side * side * CHANNELS;
        let mut resampler = Resampler::new(side, &self.normalization);

        // An image is mixed with another of the batch, which may be in another share.
        let rows = match self.mix {
            Some(_) => 0..self.batch_size,
            None => self.rows.clone(),
        };
        let mut recipes = Vec::new();
        let mut count = 0;
        batch.resize(rows.len(), image_len);
        for (slot, out) in batch.images.chunks_exact_mut(image_len).enumerate() {
            let mut place = first + rows.start + slot;
            if self.repeat {
                place %= order.len();
            }
            let Some(&sample) = order.get(place) else {
                break;
            };
            let transform = match self.transforms {
                Transforms::Drawn(augment) => {
                    Transform::draw(augment, side, self.seed, epoch, sample)
                }
                Transforms::Same(view) => view,
            };
            let index = sample as usize;
            resampler.apply(&transform, self.split.image(index), out);
            if self.cutout > 0 {
                Cutout::draw(self.cutout, side, self.seed, epoch, sample).apply(side, out);
            }
            let mix = self.mix.map(|mix| mix.draw(side, self.seed, epoch, sample));
            recipes.extend(mix);
            batch.labels[slot] = i32::from(self.split.labels[index]);
            batch.weights[slot] = 1.0;
            count += 1;
        }
        batch.pad_from(count);
        batch.step = step;
        match recipes.is_empty() {
            true => batch.mixed = Mixed::default(),
            false => batch.mixed = mix::apply(&recipes, side, &mut batch.images, &batch.labels),
        }
        if self.mix.is_some() {
            batch.keep(&self.rows);
        }
        batch.count = match self.repeat {
            true => self.batch_size,
            false => order.len().saturating_sub(first).min(self.batch_size),
        };
    }

    fn order_of(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, order)) = &*last
            && *of == epoch
        {
            return Arc::clone(order);
        }
        let n = self.split.len() as u32;
        let order = Arc::new(epoch_order(self.seed, epoch, n, self.shuffle));
        *last = Some((epoch, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_split::{IMAGE_LEN, PLAIN, SIDE, numbered, numbers};

    /// The shares of `source`'s batch for `step`, joined again; their count.
    fn joined(source: impl Fn() -> BatchSource, parts: usize, step: u64) -> Batch {
        let mut all = Batch::default();
        for part in 0..parts {
            let mut batch = Batch::default();
            source().share(part, parts).fill(step, &mut batch);
            all.images.extend(batch.images);
            all.labels.extend(batch.labels);
            all.weights.extend(batch.weights);
            all.mixed.labels.extend(batch.mixed.labels);
            all.mixed.shares.extend(batch.mixed.shares);
            (all.count, all.step) = (batch.count, batch.step);
        }
        all
    }

    #[test]
    fn the_shares_of_a_batch_are_the_batch() {
        for mix in [None, Some(Mix::Blend { alpha: 0.5 })] {
            let source = || {
                let augment = Augment::Keras;
                let options = options(8);
                BatchSource::training(
                    numbered(30),
                    PLAIN,
                    TrainingOptions {
                        augment,
                        mix,
                        ..options
                    },
                )
            };
            let mut whole = Batch::default();
            source().fill(4, &mut whole);
            for parts in [1, 2, 4] {
                assert_eq!(joined(source, parts, 4), whole, "{parts}");
            }
        }
        // The last batch of an evaluation: 3 images, 5 rows of padding.
        let source = || BatchSource::evaluation(numbered(11), PLAIN, 8);
        let mut whole = Batch::default();
        source().fill(1, &mut whole);
        assert_eq!(whole.count, 3);
        for parts in [2, 4, 8] {
            assert_eq!(joined(source, parts, 1), whole, "{parts}");
        }
    }

    fn options(batch_size: usize) -> TrainingOptions {
        TrainingOptions {
            augment: Augment::None,
            cutout: 0,
            mix: None,
            seed: 1,
            batch_size,
            shuffle: true,
            steps_per_epoch: None,
        }
    }

    /// The image numbers of each step.
    fn steps(source: &BatchSource, steps: std::ops::Range<u64>) -> Vec<Vec<usize>> {
        let mut batch = Batch::default();
        steps
            .map(|step| {
                source.fill(step, &mut batch);
                numbers(&batch)
            })
            .collect()
    }

    #[test]
    fn every_image_appears_exactly_once_an_epoch() {
        let source = BatchSource::training(numbered(60), PLAIN, options(10));
        assert_eq!(source.steps_per_epoch(), 6);
        let first = steps(&source, 0..6).concat();
        let second = steps(&source, 6..12).concat();
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..60).collect::<Vec<usize>>());
        }
    }

    #[test]
    fn training_leaves_out_what_does_not_fill_a_batch() {
        let source = BatchSource::training(numbered(25), PLAIN, options(10));
        assert_eq!(source.steps_per_epoch(), 2);
        let mut epoch = steps(&source, 0..2).concat();
        epoch.sort_unstable();
        epoch.dedup();
        assert_eq!(epoch.len(), 20);
    }

    #[test]
    fn more_steps_than_the_split_has_start_over_in_the_same_order() {
        let options = TrainingOptions {
            shuffle: false,
            steps_per_epoch: Some(3),
            ..options(4)
        };
        let source = BatchSource::training(numbered(6), PLAIN, options);
        let expected = [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5], [0, 1, 2, 3]];
        assert_eq!(steps(&source, 0..4), expected);
    }

    #[test]
    fn a_split_smaller_than_a_training_batch_is_repeated() {
        let options = TrainingOptions {
            shuffle: false,
            ..options(8)
        };
        let source = BatchSource::training(numbered(3), PLAIN, options);
        assert_eq!(source.steps_per_epoch(), 1);
        assert_eq!(steps(&source, 0..1), [[0, 1, 2, 0, 1, 2, 0, 1]]);
    }

    #[test]
    fn evaluation_pads_the_last_batch_with_weight_zero() {
        let source = BatchSource::evaluation(numbered(5), PLAIN, 4);
        assert_eq!(source.steps_per_epoch(), 2);
        assert_eq!(steps(&source, 0..2), [vec![0, 1, 2, 3], vec![4]]);

        let mut batch = Batch::default();
        source.fill(0, &mut batch);
        source.fill(1, &mut batch);
        assert_eq!(batch.count, 1);
        assert_eq!(batch.weights, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.labels, [4, 0, 0, 0]);
        assert_eq!(batch.images.len(), 4 * IMAGE_LEN);
        assert!(batch.images[IMAGE_LEN..].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn a_view_of_the_images_is_the_same_for_all_of_them() {
        let mut split = Split::clone(&numbered(2));
        // The first column tells left from right.
        let mut images = split.images.to_array();
        images.slice_mut(ndarray::s![.., .., 0, ..]).fill(200);
        split.images = images.into();
        let view = Transform {
            flip: true,
            ..Transform::IDENTITY
        };
        let source = BatchSource::of_view(Arc::new(split), PLAIN, 2, view);
        let mut batch = Batch::default();
        source.fill(0, &mut batch);
        for (number, row) in batch.images.chunks(SIDE * CHANNELS).enumerate() {
            let image = (number / SIDE) as f32;
            let (others, last) = row.split_at((SIDE - 1) * CHANNELS);
            assert!(others.iter().all(|value| (value - image).abs() < 1e-3));
            assert!(last.iter().all(|value| (value - 200.0).abs() < 1e-3));
        }
    }

    #[test]
    fn an_image_is_augmented_by_its_place_in_the_split_and_not_in_the_batch() {
        let options = TrainingOptions {
            augment: Augment::Crop,
            ..options(4)
        };
        let source = BatchSource::training(numbered(8), PLAIN, options);
        let mut batch = Batch::default();
        source.fill(3, &mut batch);
        let sample = epoch_order(1, 1, 8, true)[4 + 2];

        let transform = Transform::draw(Augment::Crop, SIDE, 1, 1, sample);
        let mut expected = [0.0; IMAGE_LEN];
        let split = numbered(8);
        Resampler::new(SIDE, &PLAIN).apply(&transform, split.image(sample as usize), &mut expected);
        assert_eq!(batch.images[2 * IMAGE_LEN..][..IMAGE_LEN], expected);
    }

    #[test]
    fn a_cutout_changes_nothing_but_its_square_whatever_the_augmentation() {
        for augment in [
            Augment::Keras,
            Augment::Crop,
            Augment::Translate,
            Augment::None,
        ] {
            let batch = |cutout| {
                let options = TrainingOptions {
                    augment,
                    cutout,
                    ..options(4)
                };
                let mut batch = Batch::default();
                BatchSource::training(numbered(8), PLAIN, options).fill(3, &mut batch);
                batch
            };
            let mut expected = batch(0);
            let samples = &epoch_order(1, 1, 8, true)[4..];
            for (image, sample) in expected.images.chunks_exact_mut(IMAGE_LEN).zip(samples) {
                Cutout::draw(7, SIDE, 1, 1, *sample).apply(SIDE, image);
            }
            assert_eq!(batch(7), expected, "{augment:?}");
            assert_ne!(batch(7), batch(0), "{augment:?}");
        }
    }
}
