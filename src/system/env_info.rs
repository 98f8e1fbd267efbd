//! What a run ran on and with: the content of `env.json`.

use std::{collections::BTreeMap, env, hint, thread};

use jiff::Timestamp;
use serde::Serialize;

use crate::system::proc;

/// The commit that the program was built from, with `-dirty` where files differed from it.
pub const COMMIT: &str = match option_env!("RESNET_XLA_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// [`COMMIT`], for comparison with another process's.
pub fn build() -> &'static str {
    // Without the black box the compiler makes instructions of its bytes. Behind it they lie in the program's data, where a
    // test makes another build of a copy.
    hint::black_box(COMMIT)
}

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
            git_commit: COMMIT,
            runtime: option_env!("RESNET_XLA_RUNTIME").unwrap_or("unknown"),
            rustc: option_env!("RESNET_XLA_RUSTC").unwrap_or("unknown"),
            command_line: env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            started: utc_seconds(Timestamp::now()),
            device: device.to_owned(),
            replicas,
            hostname: proc::hostname(),
            os: proc::os(),
            kernel: proc::kernel(),
            architecture: env::consts::ARCH,
            cpu: proc::cpu(),
            cores: thread::available_parallelism().ok().map(usize::from),
            memory_bytes: proc::memory_bytes(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
