//! What a network gets right and wrong, counted from its logits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::score::ranking::{Prediction, ranked};

/// With more classes, a matrix is too large to be read: the worst classes and pairs are shown instead.
pub const MOST_IN_A_MATRIX: usize = 20;

/// Counts over a set of labelled images.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    pub images: usize,
    /// How many images of each true class were taken for each class. Pairs that never occur are left out: with
    /// 65,535 classes a whole matrix would not fit in memory.
    pairs: BTreeMap<(usize, usize), usize>,
    number_of_classes: usize,
    /// Images whose class is among the five largest logits.
    pub top5_hits: usize,
}

/// How well one class is recognised. A share of nothing is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Images of the class.
    pub images: usize,
    /// Share of the images of the class that are recognised: its accuracy, or recall.
    pub acc: Option<f64>,
    /// Share of the images taken for the class that are of it.
    pub precision: Option<f64>,
}

/// How well groups of classes are recognised: an image is right where it is taken for any class in the group of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupScores {
    /// Share of the images that are right.
    pub acc: f64,
    /// Of each group, by number.
    pub groups: Vec<ClassScore>,
}

/// How often images of one class were taken for another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion {
    pub truth: usize,
    pub predicted: usize,
    pub images: usize,
}

/// An image taken for another class.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the image in its split.
    pub index: usize,
    pub truth: usize,
    pub predicted: Prediction,
}

impl Scores {
    /// Compares `logits` `[N, classes]` with `labels` (the first N are read), each below `classes`.
    pub fn of(logits: &[f32], classes: usize, labels: &[u16]) -> Self {
        let mut scores = Self {
            images: 0,
            pairs: BTreeMap::new(),
            number_of_classes: classes,
            top5_hits: 0,
        };
        for (row, label) in logits.chunks_exact(classes).zip(labels) {
            let ranking = ranked(row);
            let truth = usize::from(*label);
            scores.images += 1;
            *scores.pairs.entry((truth, ranking[0].class)).or_default() += 1;
            let hit = ranking.iter().take(5).any(|guess| guess.class == truth);
            scores.top5_hits += usize::from(hit);
        }
        scores
    }

    /// Share of the images whose class has the largest logit.
    pub fn accuracy(&self) -> f64 {
        self.share_right(|truth, class| truth == class)
    }

    /// Share of the images of which `is_right` is true, of their class and what they were taken for.
    fn share_right(&self, is_right: impl Fn(usize, usize) -> bool) -> f64 {
        let right = self.pairs.iter();
        let right = right.filter(|((truth, class), _)| is_right(*truth, *class));
        let correct: usize = right.map(|(_, count)| count).sum();
        correct as f64 / self.images as f64
    }

    /// The number of images of class `truth` that were taken for `predicted`.
    pub fn count(&self, truth: usize, predicted: usize) -> usize {
        self.pairs.get(&(truth, predicted)).copied().unwrap_or(0)
    }

    /// `matrix[truth][predicted]`, or `None` where there are too many classes for anybody to read it.
    pub fn matrix(&self) -> Option<Vec<Vec<usize>>> {
        let classes = self.number_of_classes;
        let row = |truth| (0..classes).map(move |class| self.count(truth, class));
        (classes <= MOST_IN_A_MATRIX).then(|| (0..classes).map(|c| row(c).collect()).collect())
    }

    /// The `count` pairs of different classes that were confused most often, most often first; of equal ones, by label.
    pub fn confusions(&self, count: usize) -> Vec<Confusion> {
        let wrong = self
            .pairs
            .iter()
            .filter(|((truth, class), _)| truth != class);
        let mut found: Vec<Confusion> = wrong
            .map(|(&(truth, predicted), &images)| Confusion {
                truth,
                predicted,
                images,
            })
            .collect();
        found.sort_by_key(|pair| std::cmp::Reverse(pair.images));
        found.truncate(count);
        found
    }

    /// Share of the images whose class is among the five largest logits.
    pub fn top5(&self) -> f64 {
        self.top5_hits as f64 / self.images as f64
    }

    /// The scores of each class, by label.
    pub fn classes(&self) -> Vec<ClassScore> {
        self.scores_by(|class| class, self.number_of_classes)
    }

    /// The scores of `count` groups; `group_of` has the number of each class's group.
    pub fn groups(&self, group_of: &[usize], count: usize) -> GroupScores {
        GroupScores {
            acc: self.share_right(|truth, class| group_of[truth] == group_of[class]),
            groups: self.scores_by(|class| group_of[class], count),
        }
    }

    /// The scores of each of `count` groups of classes; `group` has the number of a class's.
    fn scores_by(&self, group: impl Fn(usize) -> usize, count: usize) -> Vec<ClassScore> {
        let mut images = vec![0; count];
        let mut taken_for_it = vec![0; count];
        let mut right = vec![0; count];
        for ((truth, predicted), count) in &self.pairs {
            let (truth, predicted) = (group(*truth), group(*predicted));
            images[truth] += count;
            taken_for_it[predicted] += count;
            if truth == predicted {
                right[truth] += count;
            }
        }
        let score = |group| ClassScore {
            images: images[group],
            acc: share(right[group], images[group]),
            precision: share(right[group], taken_for_it[group]),
        };
        (0..count).map(score).collect()
    }

    /// The labels of the `count` classes with the lowest accuracy, lowest first; of equal ones, by label. Classes
    /// without images are left out.
    pub fn worst_classes(&self, count: usize) -> Vec<usize> {
        let scores = self.classes().into_iter().enumerate();
        let mut known: Vec<(usize, f64)> = scores
            .filter_map(|(class, score)| Some((class, score.acc?)))
            .collect();
        known.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        known.truncate(count);
        known.into_iter().map(|(class, _)| class).collect()
    }
}

fn share(count: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| count as f64 / all as f64)
}

/// The `count` images that were taken for a wrong class with the highest probability.
pub fn confident_mistakes(
    logits: &[f32],
    classes: usize,
    labels: &[u16],
    count: usize,
) -> Vec<Mistake> {
    let rows = logits.chunks_exact(classes).zip(labels);
    let mut mistakes: Vec<Mistake> = rows
        .enumerate()
        .map(|(index, (row, label))| Mistake {
            index,
            truth: usize::from(*label),
            predicted: ranked(row)[0],
        })
        .filter(|mistake| mistake.predicted.class != mistake.truth)
        .collect();
    mistakes.sort_by(|a, b| {
        let (a, b) = (a.predicted.probability, b.predicted.probability);
        b.total_cmp(&a)
    });
    mistakes.truncate(count);
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose largest is `class` by `margin`; the others fall with their index.
    fn row(class: usize, margin: f32) -> [f32; 10] {
        let mut logits: [f32; 10] = std::array::from_fn(|index| -(index as f32));
        logits[class] = margin;
        logits
    }

    #[test]
    fn counts_stand_where_truth_and_prediction_cross() {
        let logits = [row(3, 9.0), row(3, 1.0), row(5, 1.0)].concat();
        let scores = Scores::of(&logits, 10, &[3, 5, 5]);
        assert_eq!(scores.count(3, 3), 1);
        assert_eq!(scores.count(5, 3), 1);
        assert_eq!(scores.count(5, 5), 1);
        assert_eq!(scores.accuracy(), 2.0 / 3.0);
        let classes = scores.classes();
        assert_eq!(
            (classes[3].acc, classes[3].precision),
            (Some(1.0), Some(0.5))
        );
        assert_eq!(
            (classes[5].acc, classes[5].precision),
            (Some(0.5), Some(1.0))
        );
        assert_eq!((classes[0].acc, classes[0].precision), (None, None));
    }

    #[test]
    fn an_image_that_is_taken_for_another_class_of_its_group_is_right() {
        // Classes 0, 1 | 2, 3; of the images of 0 one is taken for 1 and one for 2, of those of 3 one for 2.
        let logits = [row(1, 9.0), row(2, 9.0), row(2, 9.0)].concat();
        let scores = Scores::of(&logits, 10, &[0, 0, 3]);
        assert_eq!(scores.accuracy(), 0.0);
        let GroupScores { acc, groups } = scores.groups(&[0, 0, 1, 1, 1, 1, 1, 1, 1, 1], 2);
        assert_eq!(acc, 2.0 / 3.0);
        let shares: Vec<_> = groups
            .iter()
            .map(|g| (g.images, g.acc, g.precision))
            .collect();
        assert_eq!(
            shares,
            [(2, Some(0.5), Some(1.0)), (1, Some(1.0), Some(0.5))]
        );
    }

    #[test]
    fn the_fifth_place_is_a_top_5_hit_and_the_sixth_is_none() {
        // Largest first: class 9, then 0, 1, 2, 3, 4.
        let logits = [row(9, 1.0), row(9, 1.0)].concat();
        assert_eq!(Scores::of(&logits, 10, &[3, 4]).top5(), 0.5);
    }

    #[test]
    fn any_number_of_classes_is_counted() {
        let scores = Scores::of(&[0.0, 1.0, 2.0, 3.0, 5.0, 4.0], 3, &[2, 0]);
        let matrix = scores.matrix().unwrap();
        assert_eq!(matrix, [[0, 1, 0], [0, 0, 0], [0, 0, 1]]);
        assert_eq!((scores.accuracy(), scores.top5()), (0.5, 1.0));
        assert_eq!(scores.classes().len(), 3);
    }

    #[test]
    fn of_many_classes_the_worst_are_told_and_no_matrix() {
        let wide = |class: usize| {
            let mut row = vec![0.0; 65_535];
            row[class] = 9.0;
            row
        };
        // Class 65,534 is taken for 300 twice and recognised once, class 7 for 65,534 once; class 8 is recognised.
        let guesses = [300, 300, 65_534, 65_534, 8];
        let logits: Vec<f32> = guesses.into_iter().flat_map(wide).collect();
        let scores = Scores::of(&logits, 65_535, &[65_534, 65_534, 65_534, 7, 8]);
        assert_eq!(scores.matrix(), None);
        assert_eq!(scores.accuracy(), 0.4);
        let pairs = scores.confusions(9);
        let pairs: Vec<_> = pairs
            .iter()
            .map(|p| (p.truth, p.predicted, p.images))
            .collect();
        assert_eq!(pairs, [(65_534, 300, 2), (7, 65_534, 1)]);
        assert_eq!(scores.confusions(1).len(), 1);
        assert_eq!(scores.worst_classes(2), [7, 65_534]);
        assert_eq!(scores.worst_classes(9), [7, 65_534, 8]);
    }

    #[test]
    fn mistakes_come_with_the_most_confident_first() {
        let logits = [row(1, 1.0), row(2, 8.0), row(4, 5.0), row(7, 3.0)].concat();
        let mistakes = confident_mistakes(&logits, 10, &[0, 0, 4, 0], 2);
        let found: Vec<_> = mistakes
            .iter()
            .map(|m| (m.index, m.predicted.class))
            .collect();
        assert_eq!(found, [(1, 2), (3, 7)]);
    }
}
