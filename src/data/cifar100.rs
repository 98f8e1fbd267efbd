//! CIFAR-100: 50,000 training and 10,000 test images of a hundred classes.

use std::path::Path;

use crate::data::dataset::{Dataset, DatasetSpec};
use crate::data::error::DataError;
use crate::data::fetch::official::CIFAR_100;
use crate::data::fetch::read_official;
use crate::data::records::{Format, SIDE};

/// The names of the classes (the "fine" labels), by label, as in the archive's `fine_label_names.txt`.
const CLASS_NAMES: &str = "\
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can \
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin \
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard \
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear \
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark \
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone \
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm";

/// The spec of CIFAR-100.
pub fn spec() -> DatasetSpec {
    DatasetSpec {
        side: SIDE,
        class_names: CLASS_NAMES.split(' ').map(str::to_owned).collect(),
    }
}

/// Loads the official files from `data_dir`, downloading them on first use, and verifies them.
pub(super) fn load(data_dir: &Path) -> Result<Dataset, DataError> {
    let [train, test] = read_official(&CIFAR_100, Format::CIFAR_100, data_dir)?;
    Ok(Dataset {
        name: "cifar100".to_owned(),
        spec: spec(),
        train,
        validation: None,
        test,
        stratified: false,
        sum: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_hundred_classes_in_the_order_of_the_alphabet() {
        let names = spec().class_names;
        assert_eq!(names.len(), 100);
        assert!(names.is_sorted());
        // The label of the first training image of the official file is 19: a cow.
        assert_eq!([&names[19], &names[99]], ["cattle", "worm"]);
    }
}
