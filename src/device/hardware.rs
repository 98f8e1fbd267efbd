//! Finds accelerators without loading anything.
//!
//! A plugin is loaded only where its hardware is: libtpu on a machine without a TPU asks a cloud
//! metadata server for minutes before it gives up.

use std::path::Path;

use crate::device::entries::{entries, file_name};
use crate::device::error::DeviceError;
use crate::device::plugin_kind::PluginKind;

/// PCI vendor, and which of its devices count; an empty list means all.
const TPU_CARDS: (&str, &[&str]) = (
    "0x1ae0",
    // v2 and v3, v4, v5p, v5e, v6e, v7x. The vendor's network and disk cards are in every cloud VM.
    &["0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"],
);
const GPU_CARDS: (&str, &[&str]) = ("0x10de", &[]);

/// Variables that are set on cloud machines with a TPU.
const TPU_MACHINE_VARIABLES: [&str; 2] = ["TPU_NAME", "TPU_ACCELERATOR_TYPE"];

/// Keeps libtpu from asking the cloud's metadata server.
const SKIP_METADATA: &str = "TPU_SKIP_MDS_QUERY";

/// Signs of an accelerator of `kind` below `root`: device files and PCI cards.
pub fn signs(kind: &PluginKind, root: &Path) -> Vec<String> {
    match kind {
        PluginKind::Tpu => {
            let mut found = tpu_files(root);
            found.extend(pci_cards(root, TPU_CARDS));
            found.extend(TPU_MACHINE_VARIABLES.into_iter().filter_map(|name| {
                let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
                Some(format!("variable {name}={value}"))
            }));
            found
        }
        PluginKind::Gpu => {
            let mut found = device_files(root, "dev", "nvidia");
            found.extend(pci_cards(root, GPU_CARDS));
            found
        }
        PluginKind::Cpu | PluginKind::Named(_) => Vec::new(),
    }
}

/// What [`signs`] looks for, in words.
pub fn looked_for(kind: &PluginKind) -> &'static str {
    match kind {
        PluginKind::Tpu => {
            "/dev/accel*, /dev/vfio/<number>, PCI vendor 0x1ae0, TPU_NAME, TPU_ACCELERATOR_TYPE"
        }
        PluginKind::Gpu => "/dev/nvidia*, PCI vendor 0x10de",
        PluginKind::Cpu | PluginKind::Named(_) => "nothing",
    }
}

/// Fails if there is no hardware of `kind` below `root`.
pub fn check(kind: &PluginKind, root: &Path) -> Result<(), DeviceError> {
    if signs(kind, root).is_empty() {
        return Err(DeviceError::NoHardware {
            device: kind.device(),
            looked_for: looked_for(kind),
        });
    }
    Ok(())
}

/// Fails where libtpu would query a metadata server for minutes before finding that there is no TPU.
pub fn check_libtpu_may_load(kind: &PluginKind) -> Result<(), DeviceError> {
    if *kind == PluginKind::Tpu && std::env::var_os(SKIP_METADATA).is_none() {
        check(kind, Path::new("/"))?;
    }
    Ok(())
}

/// What processes that must divide their GPUs have in common: the `kernel` ([`crate::system::proc::kernel_id`]), the device
/// files below `root`, and the GPUs that are `visible` ([`crate::device::plugin_kind::VISIBLE_GPUS`]).
///
/// Containers of one machine that have the same GPUs divide them; those that have some each do not.
pub fn gpus_seen(kernel: &str, root: &Path, visible: Option<&str>) -> String {
    let is_gpu = |path: &String| path.ends_with(|c: char| c.is_ascii_digit());
    let mut files = device_files(root, "dev", "nvidia");
    files.retain(is_gpu);
    let names = files.iter().map(|path| file_name(Path::new(path)));
    let names: Vec<String> = names.collect();
    format!(
        "{kernel}, {}, {}",
        names.join(" "),
        visible.unwrap_or("all")
    )
}

/// The device files of TPU chips.
pub fn tpu_files(root: &Path) -> Vec<String> {
    let mut files = device_files(root, "dev", "accel");
    // /dev/vfio/vfio is there on any machine with the driver; groups have numbers.
    files.extend(
        device_files(root, "dev/vfio", "")
            .into_iter()
            .filter(|path| path.ends_with(|c: char| c.is_ascii_digit())),
    );
    files
}

fn device_files(root: &Path, folder: &str, prefix: &str) -> Vec<String> {
    let mut paths: Vec<_> = entries(&root.join(folder))
        .filter(|path| file_name(path).starts_with(prefix))
        .map(|path| path.display().to_string())
        .collect();
    paths.sort();
    paths
}

fn pci_cards(root: &Path, (vendor, devices): (&str, &[&str])) -> Vec<String> {
    let read = |card: &Path, file| {
        let text = std::fs::read_to_string(card.join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    entries(&root.join("sys/bus/pci/devices"))
        .filter(|card| read(card, "vendor") == vendor)
        .filter(|card| devices.is_empty() || devices.contains(&read(card, "device").as_str()))
        .map(|card| format!("PCI card {}", card.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::test_root::root_with;

    /// The [`signs`] below `root`; this machine's own variables do not count.
    fn found(kind: &PluginKind, root: &tempfile::TempDir) -> Vec<String> {
        let mut signs = signs(kind, root.path());
        signs.retain(|sign| !sign.starts_with("variable"));
        signs
    }

    #[test]
    fn a_machine_without_device_files_has_no_tpu() {
        let root = root_with(&[("dev/vfio/vfio", ""), ("dev/null", "")]);
        assert!(found(&PluginKind::Tpu, &root).is_empty());
    }

    #[test]
    fn a_machine_without_a_card_is_told_what_was_looked_for() {
        let root = root_with(&[("dev/null", "")]);
        let error = check(&PluginKind::Gpu, root.path()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("/dev/nvidia*") && error.contains("0x10de"),
            "{error}"
        );
    }

    /// A PCI card's two files.
    fn card(vendor: &'static str, device: &'static str) -> [(&'static str, &'static str); 2] {
        [
            ("sys/bus/pci/devices/0000:00:04.0/vendor", vendor),
            ("sys/bus/pci/devices/0000:00:04.0/device", device),
        ]
    }

    #[test]
    fn each_sign_of_a_tpu_counts() {
        let v5e = card("0x1ae0\n", "0x0063\n");
        for files in [&[("dev/accel0", "")][..], &[("dev/vfio/3", "")], &v5e] {
            let root = root_with(files);
            assert_eq!(found(&PluginKind::Tpu, &root).len(), 1, "{files:?}");
        }
    }

    #[test]
    fn a_cloud_machines_network_card_is_no_tpu() {
        // The virtual network card that the same vendor puts into its virtual machines.
        let root = root_with(&card("0x1ae0\n", "0x0042\n"));
        assert!(found(&PluginKind::Tpu, &root).is_empty());
    }

    #[test]
    fn processes_that_have_the_same_gpus_are_told_from_those_that_have_others() {
        let root = |gpus: &[&str]| {
            let files: Vec<String> = gpus.iter().map(|gpu| format!("dev/nvidia{gpu}")).collect();
            let files: Vec<(&str, &str)> = files.iter().map(|file| (file.as_str(), "")).collect();
            root_with(&files)
        };
        let machine = root(&["0", "1", "2", "3", "ctl", "-uvm"]);
        let seen = |kernel, visible| gpus_seen(kernel, machine.path(), visible);
        let here = seen("a", None);
        // Two containers of one machine: with all GPUs, and with two of them each.
        let all = root(&["ctl", "3", "2", "1", "0"]);
        assert_eq!(gpus_seen("a", all.path(), None), here);
        let halves = [&["0", "1"][..], &["2", "3"]].map(root);
        let [first, second] = halves.map(|half| gpus_seen("a", half.path(), None));
        assert!(first != second && first != here && second != here);
        assert_ne!(seen("b", None), here);
        // A launcher that divides them.
        assert_ne!(seen("a", Some("0,1")), seen("a", Some("2,3")));
        assert_eq!(seen("a", Some("0,1")), seen("a", Some("0,1")));
    }

    #[test]
    fn another_vendors_card_is_no_tpu() {
        let root = root_with(&card("0x10de\n", "0x0063\n"));
        assert!(found(&PluginKind::Tpu, &root).is_empty());
        assert_eq!(found(&PluginKind::Gpu, &root).len(), 1);
    }
}
