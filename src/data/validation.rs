//! What of a data set a run is trained on, and what it is validated on.
//!
//! Settings chosen by test accuracy make that accuracy too high for new images. So a run may hold out training images to
//! validate on, and leave the test images alone.

use std::sync::Arc;

use crate::data::dataset::{Dataset, DatasetSpec, Split};

/// Images that a network is scored on.
#[derive(Clone, Debug)]
pub struct Validation {
    pub split: Arc<Split>,
    /// Whether they are training images held out, or else the test images.
    pub held_out: bool,
}

impl Validation {
    /// What its images are called: "test" or "validation" images.
    pub fn name(&self) -> &'static str {
        match self.held_out {
            true => "validation",
            false => "test",
        }
    }
}

/// The images of a run.
#[derive(Clone, Debug)]
pub struct RunImages {
    /// Of the data set.
    pub name: String,
    pub spec: DatasetSpec,
    pub training: Split,
    pub validation: Validation,
}

impl Dataset {
    /// For a run that is validated on the last `held_out` training images, in the order of the files; if that is 0, on the
    /// test images.
    ///
    /// # Panics
    /// When there are fewer training images.
    pub fn divide(self, held_out: usize) -> RunImages {
        let (training, split) = match held_out {
            0 => (self.train, self.test),
            _ => {
                let first = self.train.len() - held_out;
                self.train.split_at(first)
            }
        };
        RunImages {
            name: self.name,
            spec: self.spec,
            training,
            validation: Validation {
                split: Arc::new(split),
                held_out: held_out > 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pipeline::augment::Augment;
    use crate::data::pipeline::batches::{Batch, BatchSource, TrainingOptions};
    use crate::data::pipeline::normalization::Normalization;
    use crate::data::test_split::{PLAIN, SIDE, numbered, numbers};

    fn dataset() -> Dataset {
        Dataset {
            name: "numbers".to_owned(),
            spec: DatasetSpec {
                side: SIDE,
                class_names: ('0'..='9').map(String::from).collect(),
            },
            train: (*numbered(30)).clone(),
            test: (*numbered(5)).clone(),
        }
    }

    /// The numbers of the images in the batches of one epoch.
    fn epoch(source: &BatchSource) -> Vec<usize> {
        let mut batch = Batch::default();
        let steps = 0..source.steps_per_epoch();
        let batches = steps.map(|step| {
            source.fill(step, &mut batch);
            numbers(&batch)
        });
        batches.flatten().collect()
    }

    fn trained_on(split: Split) -> Vec<usize> {
        let options = TrainingOptions {
            augment: Augment::None,
            cutout: 0,
            mix: None,
            seed: 1,
            batch_size: 1,
            shuffle: true,
            steps_per_epoch: None,
        };
        let mut images = epoch(&BatchSource::training(Arc::new(split), PLAIN, options));
        images.sort_unstable();
        images
    }

    #[test]
    fn the_last_images_are_held_out_and_all_others_trained_on() {
        for held_out in 1..30 {
            let RunImages {
                training,
                validation,
                ..
            } = dataset().divide(held_out);
            assert_eq!(validation.name(), "validation");
            let validated_on = BatchSource::evaluation(validation.split, PLAIN, 7);
            let first = 30 - held_out;
            assert_eq!(epoch(&validated_on), Vec::from_iter(first..30));
            assert_eq!(trained_on(training), Vec::from_iter(0..first));
        }
    }

    #[test]
    fn without_a_split_the_test_images_are_validated_on() {
        let images = dataset().divide(0);
        assert_eq!(images.validation.name(), "test");
        assert_eq!(images.validation.split, numbered(5));
        assert_eq!(images.training, *numbered(30));
    }

    #[test]
    fn what_is_held_out_does_not_count_for_normalisation() {
        let images = dataset().divide(28);
        // Images of nothing but 0 and of nothing but 1 are left.
        let normalization = Normalization::of(&images.training);
        assert_eq!(
            (normalization.mean, normalization.std),
            ([0.5; 3], [0.5; 3])
        );
    }
}
