//! The order of the samples in an epoch.

use crate::data::pipeline::random::{Purpose, Random};

/// The sample indices `0..n` in the order of epoch `epoch`: a uniform permutation that depends only on `seed` and
/// `epoch`, or file order without `shuffle`.
pub fn epoch_order(seed: u64, epoch: u64, n: u32, shuffle: bool) -> Vec<u32> {
    if !shuffle {
        return (0..n).collect();
    }
    let mut random = Random::new(Purpose::Order, seed, epoch, 0);
    let mut keyed: Vec<(u64, u32)> = (0..n).map(|index| (random.next_u64(), index)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_appears_once() {
        let mut order = epoch_order(7, 3, 1000, true);
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn seed_and_epoch_each_change_the_order() {
        let order = epoch_order(7, 3, 1000, true);
        assert_eq!(order, epoch_order(7, 3, 1000, true));
        assert_ne!(order, epoch_order(8, 3, 1000, true));
        assert_ne!(order, epoch_order(7, 4, 1000, true));
    }

    #[test]
    fn first_places_are_spread_over_all_indices() {
        // Over 10,000 epochs, each of 10 samples comes first 1,000 times on average, with a standard deviation of 30.
        let mut counts = [0; 10];
        for epoch in 0..10_000 {
            counts[epoch_order(0, epoch, 10, true)[0] as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn without_shuffle_the_order_is_that_of_the_file() {
        assert_eq!(epoch_order(7, 3, 4, false), [0, 1, 2, 3]);
    }
}
