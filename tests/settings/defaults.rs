//! Defaults that depend on other settings.

use resnet_xla::cli::arguments;
use resnet_xla::cli::config::Config;

use crate::options::resolve_file;

fn resolve(options: &[&str]) -> Config {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    Config::resolve(&arguments::parse_training(&options).unwrap()).unwrap()
}

#[test]
fn adamw_decays_kernels_and_leaves_the_loss_alone_unless_told_otherwise() {
    let of = |config: Config| (config.l2, config.weight_decay);
    // `keras.optimizers.AdamW().weight_decay` is 0.004.
    for (options, expected) in [
        (&[][..], (1e-4, 0.0)),
        (&["--optimizer=nesterov"], (1e-4, 0.0)),
        (&["--optimizer=adamw"], (0.0, 0.004)),
        (&["--preset=quick", "--optimizer=adamw"], (0.0, 0.004)),
        (&["--optimizer=adamw", "--l2=1e-5"], (1e-5, 0.004)),
        (&["--optimizer=adamw", "--weight-decay=0"], (0.0, 0.0)),
    ] {
        assert_eq!(of(resolve(options)), expected, "{options:?}");
    }
    let file = "optimizer = \"adamw\"\nl2 = 1e-4\n";
    assert_eq!(of(resolve_file(file).unwrap()), (1e-4, 0.004));
}
