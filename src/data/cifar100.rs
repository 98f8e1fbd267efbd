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

/// The groups of classes (the "coarse" labels) by number, each behind its name, as the data set's home page lists them.
const GROUPS: [(&str, [&str; 5]); 20] = [
    (
        "aquatic mammals",
        ["beaver", "dolphin", "otter", "seal", "whale"],
    ),
    (
        "fish",
        ["aquarium_fish", "flatfish", "ray", "shark", "trout"],
    ),
    ("flowers", ["orchid", "poppy", "rose", "sunflower", "tulip"]),
    ("food containers", ["bottle", "bowl", "can", "cup", "plate"]),
    (
        "fruit and vegetables",
        ["apple", "mushroom", "orange", "pear", "sweet_pepper"],
    ),
    (
        "household electrical devices",
        ["clock", "keyboard", "lamp", "telephone", "television"],
    ),
    (
        "household furniture",
        ["bed", "chair", "couch", "table", "wardrobe"],
    ),
    (
        "insects",
        ["bee", "beetle", "butterfly", "caterpillar", "cockroach"],
    ),
    (
        "large carnivores",
        ["bear", "leopard", "lion", "tiger", "wolf"],
    ),
    (
        "large man-made outdoor things",
        ["bridge", "castle", "house", "road", "skyscraper"],
    ),
    (
        "large natural outdoor scenes",
        ["cloud", "forest", "mountain", "plain", "sea"],
    ),
    (
        "large omnivores and herbivores",
        ["camel", "cattle", "chimpanzee", "elephant", "kangaroo"],
    ),
    (
        "medium-sized mammals",
        ["fox", "porcupine", "possum", "raccoon", "skunk"],
    ),
    (
        "non-insect invertebrates",
        ["crab", "lobster", "snail", "spider", "worm"],
    ),
    ("people", ["baby", "boy", "girl", "man", "woman"]),
    (
        "reptiles",
        ["crocodile", "dinosaur", "lizard", "snake", "turtle"],
    ),
    (
        "small mammals",
        ["hamster", "mouse", "rabbit", "shrew", "squirrel"],
    ),
    (
        "trees",
        [
            "maple_tree",
            "oak_tree",
            "palm_tree",
            "pine_tree",
            "willow_tree",
        ],
    ),
    (
        "vehicles 1",
        ["bicycle", "bus", "motorcycle", "pickup_truck", "train"],
    ),
    (
        "vehicles 2",
        ["lawn_mower", "rocket", "streetcar", "tank", "tractor"],
    ),
];

/// Groups of a data set's classes.
pub struct Groups {
    pub names: Vec<&'static str>,
    /// The number of the group of each class, by label.
    pub of_class: Vec<usize>,
}

/// The groups of the classes of `spec`, if these are CIFAR-100's.
pub fn groups(spec: &DatasetSpec) -> Option<Groups> {
    if spec.class_names != self::spec().class_names {
        return None;
    }
    let group = |class: &String| {
        GROUPS
            .iter()
            .position(|(_, in_it)| in_it.contains(&&class[..]))
    };
    Some(Groups {
        names: GROUPS.map(|(name, _)| name).to_vec(),
        of_class: spec.class_names.iter().map(group).collect::<Option<_>>()?,
    })
}

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

    #[test]
    fn each_class_is_in_the_group_of_its_coarse_label_in_the_official_files() {
        // The label of the group of each class, as in the records of the official binary version.
        const COARSE: [usize; 100] = [
            4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6,
            13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
            16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
            12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
        ];
        let Groups { names, of_class } = groups(&spec()).unwrap();
        assert_eq!(names.len(), 20);
        assert_eq!(of_class, COARSE);
        let mut others = spec();
        others.class_names.pop();
        assert!(groups(&others).is_none());
    }
}
