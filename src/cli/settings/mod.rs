//! All settings of a training run, each defined once.
//!
//! ```text
//!  list ─► setting ─► the options of commands and their variables (options)
//!                 ├─► the keys of a -c file (config_file)
//!                 └─► the table of a preset; what a resumed run may change (config)
//! ```
//!
//! A new setting is an entry of the list and a field of [`Config`](crate::cli::config::Config).

mod list;
mod preset;
mod setting;

use std::sync::LazyLock;

pub use preset::Preset;
pub use setting::{Setting, variable};

/// The settings in the order of `--help`.
static ALL: LazyLock<Vec<Setting>> = LazyLock::new(list::list);

/// The settings in the order of `--help`.
pub fn all() -> &'static [Setting] {
    &ALL
}

/// The setting called `name`.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().iter().find(|setting| setting.name == name)
}

/// The defaults of `preset`, as options of a command line.
pub fn defaults(preset: Preset) -> Vec<String> {
    let option = |setting: &Setting| {
        let value = setting.default_in(preset)?;
        Some(format!("--{}={value}", setting.name))
    };
    all().iter().filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;
    use crate::cli::config::Config;
    use crate::data::{Augment, cifar10_spec};
    use crate::model::choose::ModelSettings;
    use crate::model::optimisers::OptimiserSettings;
    use crate::run::schedule::ScheduleChoice;

    #[test]
    fn the_list_and_the_struct_name_the_same_settings() {
        // For an unknown field, serde's error lists the fields that the struct has.
        let table = toml::Table::from_iter([("?".to_owned(), true.into())]);
        let refused = table.try_into::<Config>().unwrap_err().to_string();
        let (_, expected) = refused.split_once("expected one of").unwrap();
        let fields: BTreeSet<_> = expected.split('`').skip(1).step_by(2).collect();
        let names: BTreeSet<_> = all().iter().map(|setting| setting.name).collect();
        assert_eq!(fields, names);
        assert_eq!(names.len(), all().len(), "a name is listed twice");
    }

    #[test]
    fn a_resumed_run_may_change_what_its_weights_do_not_depend_on() {
        let free = all().iter().filter(|setting| setting.free);
        let free: Vec<_> = free.map(|setting| setting.name).collect();
        let expected = "preset device plugin program compile-cache replicas processes process coordinator units epochs max-steps \
                        cache-memory data-dir out-dir init-weights checkpoint-every keep log-every profile progress";
        assert_eq!(free.join(" "), expected);
    }

    #[test]
    fn every_preset_is_a_whole_run_under_its_own_name() {
        for &preset in Preset::value_variants() {
            let config = Config::preset(preset).unwrap();
            assert_eq!(config.preset, preset);
            let name = preset.to_possible_value().unwrap();
            assert!(config.out_dir.ends_with(name.get_name()));
        }
    }

    #[test]
    fn the_preset_keras_trains_the_tutorials_model() {
        let config = Config::preset(Preset::Keras).unwrap();
        let model = config.model(&cifar10_spec(), 1);
        assert_eq!(model, ModelSettings::tutorial(164, 128));
    }

    /// As the tutorial's script has them.
    #[test]
    fn the_preset_keras_trains_as_the_tutorial_does() {
        let config = Config::preset(Preset::Keras).unwrap();
        let model = config.model(&cifar10_spec(), 1);
        assert_eq!(model.optimiser, OptimiserSettings::sgd(0.9));
        assert_eq!((model.l2, model.bn_momentum), (1e-4, 0.99));
        assert_eq!((config.lr, config.lr_schedule), (0.1, ScheduleChoice::Step));
        assert_eq!(config.lr_drops.to_string(), "80:0.01,120:0.001");
        assert_eq!((config.epochs, config.warmup), (100, 0));
        assert_eq!((config.augment, config.cutout), (Augment::Keras, 0));
        let none = [
            model.label_smoothing,
            config.mixup,
            config.cutmix,
            config.ema,
        ];
        assert_eq!(none, [0.0; 4]);
    }

    #[test]
    fn the_preset_fast95_is_fast_with_a_larger_network_and_more_epochs() {
        let [fast, fast95] = [Preset::Fast, Preset::Fast95].map(defaults);
        let own: Vec<_> = fast95
            .into_iter()
            .filter(|option| !fast.contains(option))
            .collect();
        let expected = "--preset=fast95 --model=fast-deep --widths=128,384,384 --epochs=30 --out-dir=runs/fast95";
        assert_eq!(own.join(" "), expected);
    }

    #[test]
    fn the_help_ends_with_the_default_of_each_preset() {
        for (name, ending) in [
            ("depth", "9n+2 [default: 164; quick: 11]"),
            (
                "epochs",
                "training images [default: 100; quick: 3; fast: 24; fast95: 30]",
            ),
            ("l2", "default with adamw [default: 1e-4; fast: 0]"),
            ("out-dir", "of the run [default: runs/PRESET]"),
            (
                "checkpoint-every",
                "between checkpoints [default: an epoch]",
            ),
            ("no-shuffle", "in file order"),
        ] {
            let arg = find(name).unwrap().arg();
            let help = arg.get_help().unwrap().to_string();
            assert!(help.ends_with(ending), "{help}");
        }
    }
}
