//! TensorBoard's profile plugin shows what libtpu recorded. Alone in its process, because libtpu changes it.

mod program;

use std::fs;

use program::plugins::libtpu;
use program::tensorboard;

#[test]
fn tensorboard_shows_what_libtpu_records_without_a_tpu() {
    let Some(libtpu) = libtpu() else { return };
    pjrt::keep_libtpu_offline();
    let plugin = pjrt::Plugin::load(&libtpu).unwrap();
    let recorded = plugin.record().unwrap().finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("plugins/profile/steps");
    fs::create_dir_all(&profile).unwrap();
    fs::write(profile.join("vm.xplane.pb"), recorded).unwrap();
    let Some(events) = tensorboard::shown_events(folder.path()) else {
        return;
    };
    let bars = events.iter().filter(|event| event["ph"] == "X");
    let processes: Vec<_> = bars
        .map(|bar| tensorboard::process_of(bar, &events))
        .collect();
    println!("{} bars", processes.len());
    assert!(processes.contains(&"vm /host:CPU"), "{processes:?}");
}
