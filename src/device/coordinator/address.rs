//! Where the processes of a run meet: from the setting, or from what launchers leave in the environment.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device::processes::{Launcher, Processes, Variables};

/// The port where nobody names one.
const PORT: u16 = 29_500;

/// The first port of jobs of Slurm: above those that Linux gives to connections.
const SLURM_PORT: u32 = 61_000;
/// Jobs that follow each other have as many ports each, one for each of their steps.
const SLURM_STEPS: u32 = 64;
/// So many jobs that follow each other share no port.
const SLURM_JOBS: u32 = 62;

/// The longest name of a host.
const HOST_LEN: usize = 253;

/// A host and a port, the value of `--coordinator`: `node1:29500`, `10.0.0.1:29500` or `[fd00::1]:29500`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// Without brackets.
    host: String,
    port: u16,
}

/// An address, and who says that it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub address: Address,
    pub by: String,
}

/// Variables that name no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variables} say `{got}`: {reason}")]
pub struct AddressError {
    variables: &'static str,
    got: String,
    reason: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected HOST:PORT, for example node1:29500, 10.0.0.1:29500 or [fd00::1]:29500"
                .to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // What ends in brackets is an address of version 6; without them its end would look like a port.
        let is_bare = |host: &&str| host.parse().is_ok_and(|address: IpAddr| address.is_ipv6());
        let host = match bare {
            Some(bare) => Some(bare).filter(is_bare),
            None => Some(host).filter(|host| is_name(host)),
        };
        Ok(Self {
            host: host.ok_or_else(expected)?.to_owned(),
            port,
        })
    }
}

/// Whether `host` may be a name or an address of version 4.
fn is_name(host: &str) -> bool {
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.len() <= HOST_LEN && host.chars().all(in_names)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl Address {
    /// Where other machines reach this one: its address on the network that leads everywhere else, at port 29500.
    ///
    /// # Errors
    /// No network leads anywhere.
    pub fn own() -> io::Result<Self> {
        // Nothing is sent: the system only chooses from which of its addresses it would. That one is for documentation.
        const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(ELSEWHERE)?;
        Ok(Self {
            host: socket.local_addr()?.ip().to_string(),
            port: PORT,
        })
    }

    /// The same host at another `port`.
    pub fn at_port(&self, port: u16) -> Self {
        let host = self.host.clone();
        Self { host, port }
    }

    /// What the host's name leads to.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// Listens there.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let found = self.resolve()?;
        let for_this_machine = self.host == "localhost" || self.host.parse::<IpAddr>().is_ok();
        let only_here = found.iter().all(|address| address.ip().is_loopback());
        match only_here && !for_this_machine {
            // On some systems a machine's own name leads to an address that others cannot reach.
            true => TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)),
            false => TcpListener::bind(&found[..]),
        }
    }
}

/// The address that the setting names, or else the variables that `get` reads, for `processes`.
///
/// # Errors
/// Variables that name something that is none.
pub fn find(
    asked: Option<&Address>,
    processes: &Processes,
    get: Variables,
) -> Result<Option<Named>, AddressError> {
    if let Some(address) = asked {
        return Ok(Some(Named {
            address: address.clone(),
            by: "--coordinator".to_owned(),
        }));
    }
    if let (Some(host), Some(port)) = (get("MASTER_ADDR"), get("MASTER_PORT")) {
        return named("MASTER_ADDR, MASTER_PORT", &host, &port).map(Some);
    }
    match processes.launcher {
        Launcher::Slurm => of_slurm(get),
        _ => Ok(None),
    }
}

/// [`find`] in this process's environment.
pub fn here(asked: Option<&Address>, processes: &Processes) -> Result<Option<Named>, AddressError> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    find(asked, processes, &get)
}

fn named(variables: &'static str, host: &str, port: &str) -> Result<Named, AddressError> {
    let got = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    match got.parse() {
        Ok(address) => Ok(Named {
            address,
            by: variables.to_owned(),
        }),
        Err(reason) => Err(AddressError {
            variables,
            got,
            reason,
        }),
    }
}

/// The first node of a step, where process 0 is, and a port that no other step has there at the same time: jobs whose
/// numbers differ by a multiple of [`SLURM_JOBS`] rarely run on one node together, nor do steps of one job whose numbers
/// differ by a multiple of [`SLURM_STEPS`].
fn of_slurm(get: Variables) -> Result<Option<Named>, AddressError> {
    let number = |name: &str| get(name).and_then(|text| text.parse::<u32>().ok());
    let nodes = get("SLURM_STEP_NODELIST");
    let first = nodes.as_deref().and_then(first_node);
    let (Some(node), Some(job)) = (first, number("SLURM_JOB_ID")) else {
        return Ok(None);
    };
    let step = number("SLURM_STEP_ID").unwrap_or(0);
    let port = SLURM_PORT + job % SLURM_JOBS * SLURM_STEPS + step % SLURM_STEPS;
    named(
        "SLURM_STEP_NODELIST, SLURM_JOB_ID, SLURM_STEP_ID",
        &node,
        &port.to_string(),
    )
    .map(Some)
}

/// The first name in a list as Slurm writes it: `rack1-n03` of `rack[1-2]-n[03-06,10],login`.
fn first_node(list: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = list;
    loop {
        let end = rest.find([',', '[']).unwrap_or(rest.len());
        name.push_str(&rest[..end]);
        let Some(group) = rest[end..].strip_prefix('[') else {
            break;
        };
        let (group, after) = group.split_once(']')?;
        let first = group.find([',', '-']).unwrap_or(group.len());
        name.push_str(&group[..first]);
        rest = after;
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn processes(launcher: Launcher) -> Processes {
        Processes {
            index: 1,
            count: 4,
            launcher,
            source: "a test".to_owned(),
        }
    }

    /// The address that `variables` name and who says so.
    fn found(
        launcher: Launcher,
        asked: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<(String, String)>, AddressError> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let asked = asked.map(|asked| asked.parse().unwrap());
        let named = find(asked.as_ref(), &processes(launcher), &get)?;
        Ok(named.map(|named| (named.address.to_string(), named.by)))
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in [
            "node1:29500",
            "10.0.0.1:1",
            "a_b.c-d:65535",
            "[fd00::1]:0",
            "localhost:80",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("{}:1", "a".repeat(254));
        for wrong in [
            "",
            "node1",
            ":29500",
            "node1:",
            "node1:65536",
            "node1:-1",
            "fd00::1",
            "fd00::1:80",
            "[fd00::1]",
            "[node1]:80",
            "[10.0.0.1]:80",
            "a b:80",
            "a\u{1b}:80",
            "http://node1:80",
            &long,
        ] {
            let fault = wrong.parse::<Address>().unwrap_err();
            assert!(fault.starts_with("expected HOST:PORT"), "{wrong}: {fault}");
        }
    }

    #[test]
    fn the_setting_comes_first_then_the_variables_of_torchrun_then_those_of_slurm() {
        let master = [("MASTER_ADDR", "node1"), ("MASTER_PORT", "29500")];
        let slurm = [
            ("SLURM_STEP_NODELIST", "gpu[07-09]"),
            ("SLURM_JOB_ID", "4003"),
            ("SLURM_STEP_ID", "2"),
        ];
        let all = [&master[..], &slurm[..]].concat();
        let address = |address: &str, by: &str| Ok(Some((address.to_owned(), by.to_owned())));
        let said = found(Launcher::Slurm, Some("x:1"), &all);
        assert_eq!(said, address("x:1", "--coordinator"));
        let said = found(Launcher::Slurm, None, &all);
        assert_eq!(said, address("node1:29500", "MASTER_ADDR, MASTER_PORT"));
        let said = found(Launcher::Slurm, None, &slurm);
        // Job 4003 is the 35th after a multiple of 62: 61000 + 35 * 64 + 2.
        let by = "SLURM_STEP_NODELIST, SLURM_JOB_ID, SLURM_STEP_ID";
        assert_eq!(said, address("gpu07:63242", by));
        // Inside a job of Slurm, mpirun's processes are not in the order of its nodes.
        for launcher in [Launcher::OpenMpi, Launcher::None] {
            assert_eq!(found(launcher, None, &slurm), Ok(None));
        }
        assert_eq!(found(Launcher::Torchrun, None, &master[..1]), Ok(None));
        let six = [("MASTER_ADDR", "fd00::1"), ("MASTER_PORT", "29500")];
        let said = found(Launcher::Torchrun, None, &six);
        assert_eq!(said, address("[fd00::1]:29500", "MASTER_ADDR, MASTER_PORT"));
    }

    #[test]
    fn steps_of_jobs_that_follow_each_other_share_no_port() {
        let port = |job: u32, step: u32| {
            let variables = [
                ("SLURM_STEP_NODELIST", "n"),
                ("SLURM_JOB_ID", &job.to_string()),
                ("SLURM_STEP_ID", &step.to_string()),
            ];
            let (address, _) = found(Launcher::Slurm, None, &variables).unwrap().unwrap();
            address.strip_prefix("n:").unwrap().parse::<u16>().unwrap()
        };
        let first = 12_345_678;
        let mut ports = BTreeSet::new();
        for job in first..first + 62 {
            ports.extend((0..64).map(|step| port(job, step)));
        }
        assert_eq!(ports.len(), 62 * 64);
        assert!(*ports.first().unwrap() >= 61_000 && *ports.last().unwrap() < 65_000);
        // A job that goes on with another step, and the largest numbers that there are.
        assert_eq!(port(7, 64), port(7, 0));
        assert!(ports.contains(&port(u32::MAX, u32::MAX)));
    }

    #[test]
    fn variables_that_name_no_address_are_named() {
        let master = [("MASTER_ADDR", "node1"), ("MASTER_PORT", "any")];
        let fault = found(Launcher::Torchrun, None, &master).unwrap_err();
        let fault = fault.to_string();
        assert!(
            fault.starts_with("MASTER_ADDR, MASTER_PORT say `node1:any`: expected HOST:PORT"),
            "{fault}"
        );
    }

    #[test]
    fn the_first_node_of_a_list_is_found() {
        for (list, first) in [
            ("node1", Some("node1")),
            ("node1,node2", Some("node1")),
            ("node[003-006,010]", Some("node003")),
            ("node[5]", Some("node5")),
            ("node[1,4-6].cluster,x", Some("node1.cluster")),
            ("rack[1-2]-n[03-06]", Some("rack1-n03")),
            ("", None),
            ("node[1", None),
        ] {
            assert_eq!(first_node(list).as_deref(), first, "{list}");
        }
    }

    #[test]
    fn its_own_address_is_one_at_which_this_machine_can_listen() {
        match Address::own() {
            Ok(own) => {
                assert!(own.to_string().ends_with(":29500"), "{own}");
                assert!(own.at_port(0).listen().is_ok(), "{own}");
            }
            Err(_) => println!("skipped: this machine has no network"),
        }
    }

    #[test]
    fn where_a_name_of_this_machine_leads_is_listened_at() {
        for name in ["127.0.0.1:0", "localhost:0"] {
            let listener = name.parse::<Address>().unwrap().listen().unwrap();
            assert!(listener.local_addr().unwrap().ip().is_loopback());
        }
    }
}
