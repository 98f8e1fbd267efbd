//! What a run ran on and with: the content of `env.json`.

use std::{collections::BTreeMap, env, fs, thread};

use jiff::Timestamp;
use serde::Serialize;

/// The program, the machine and the settings from outside that a run's result may depend on.
#[derive(Debug, Clone, Serialize)]
pub struct EnvInfo {
    pub version: &'static str,
    pub git_commit: &'static str,
    /// Version of the XLA runtime that the program was built for.
    pub runtime: &'static str,
    pub rustc: &'static str,
    pub command_line: Vec<String>,
    /// When this was collected: UTC, RFC 3339, to the second.
    pub started: String,
    /// The device as the program names it.
    pub device: String,
    /// Devices that share each batch.
    pub replicas: usize,
    pub hostname: Option<String>,
    pub os: Option<String>,
    /// Linux kernel release.
    pub kernel: Option<String>,
    pub architecture: &'static str,
    pub cpu: Option<String>,
    /// Processors this process may run on.
    pub cores: Option<usize>,
    pub memory_bytes: Option<u64>,
    /// Environment variables that change how the program or XLA runs.
    pub variables: BTreeMap<String, String>,
}

impl EnvInfo {
    /// Looks at the machine and the process. What the system does not tell is left empty.
    pub fn collect(device: &str, replicas: usize) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            git_commit: option_env!("RESNET_XLA_GIT_COMMIT").unwrap_or("unknown"),
            runtime: option_env!("RESNET_XLA_RUNTIME").unwrap_or("unknown"),
            rustc: option_env!("RESNET_XLA_RUSTC").unwrap_or("unknown"),
            command_line: env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            started: utc_seconds(Timestamp::now()),
            device: device.to_owned(),
            replicas,
            hostname: line_of("/proc/sys/kernel/hostname"),
            os: value_in("/etc/os-release", "PRETTY_NAME", '='),
            kernel: line_of("/proc/sys/kernel/osrelease"),
            architecture: env::consts::ARCH,
            cpu: value_in("/proc/cpuinfo", "model name", ':'),
            cores: thread::available_parallelism().ok().map(usize::from),
            memory_bytes: value_in("/proc/meminfo", "MemTotal", ':').and_then(|s| kib_to_bytes(&s)),
            variables: env::vars_os()
                .filter_map(|(name, value)| {
                    let name = name.into_string().ok()?;
                    matters(&name).then(|| (name, value.to_string_lossy().into_owned()))
                })
                .collect(),
        }
    }
}

/// Whether an environment variable may change a run. The others are nobody's business and are never written down.
fn matters(name: &str) -> bool {
    const PREFIXES: [&str; 6] = ["RESNET_XLA_", "XLA_", "TPU_", "LIBTPU_", "PJRT_", "JAX_"];
    const NAMES: [&str; 4] = [
        "CUDA_VISIBLE_DEVICES",
        "GLIBC_TUNABLES",
        "OMP_NUM_THREADS",
        "RUST_LOG",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

fn utc_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn value_in(path: &str, key: &str, separator: char) -> Option<String> {
    value_of(&fs::read_to_string(path).ok()?, key, separator)
}

/// The value of the first `key`, separator, value line of `text`, without quotes.
fn value_of(text: &str, key: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// "16 kB", as `/proc/meminfo` writes it, in bytes; its kB are 1024 bytes.
fn kib_to_bytes(text: &str) -> Option<u64> {
    let kib: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a program prints, or nothing when this machine does not have it.
    fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    }

    #[test]
    fn the_machine_is_described_as_the_systems_own_tools_describe_it() {
        let info = EnvInfo::collect("CPU", 1);
        let checks = [
            ("uname", ["-r"], info.kernel),
            ("uname", ["-n"], info.hostname),
            ("uname", ["-m"], Some(info.architecture.to_owned())),
        ];
        for (program, arguments, ours) in checks {
            match output_of(program, &arguments) {
                Some(theirs) => assert_eq!(ours, Some(theirs), "{program} {arguments:?}"),
                None => println!("skipped: no {program} here to compare with"),
            }
        }
    }

    #[test]
    fn values_are_found_in_the_systems_files() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Fast CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: Other\n";
        let cpu = value_of(cpuinfo, "model name", ':');
        assert_eq!(cpu.as_deref(), Some("Fast CPU @ 2.00GHz"));
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let os = value_of(release, "PRETTY_NAME", '=');
        assert_eq!(os.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(value_of("no such thing", "model name", ':'), None);
        assert_eq!(kib_to_bytes("   24579360 kB"), Some(25_169_264_640));
        assert_eq!(kib_to_bytes("much"), None);
    }

    #[test]
    fn the_start_is_written_in_utc_to_the_second() {
        // `date -u -d @1700000000 +%FT%TZ`
        let time = Timestamp::new(1_700_000_000, 999_999_999).unwrap();
        assert_eq!(utc_seconds(time), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn only_variables_that_steer_a_run_are_kept() {
        for name in [
            "XLA_FLAGS",
            "RESNET_XLA_EPOCHS",
            "TPU_LIBRARY_PATH",
            "LIBTPU_INIT_ARGS",
        ] {
            assert!(matters(name), "{name}");
        }
        for name in ["PATH", "HOME", "AWS_SECRET_ACCESS_KEY", "MY_TPU_PASSWORD"] {
            assert!(!matters(name), "{name}");
        }
        let variables = EnvInfo::collect("CPU", 1).variables;
        assert!(!variables.contains_key("PATH"));
    }

    #[test]
    fn the_json_holds_the_device_and_the_command_line() {
        let json = serde_json::to_value(EnvInfo::collect("TPU v5e", 8)).unwrap();
        assert_eq!(
            (&json["device"], &json["replicas"]),
            (&"TPU v5e".into(), &8.into())
        );
        let program = env::args().next().unwrap();
        assert_eq!(json["command_line"][0], program);
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    }
}
