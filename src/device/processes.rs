//! Who is who among several processes of one run: from the settings, or from what launchers leave in the environment.
//!
//! ```text
//!  --processes, --process ─┐
//!  mpirun, srun, torchrun ─┼─► Processes: this is number `index` of `count`
//!  the VMs of a TPU slice ─┘
//! ```

use std::fmt;

/// Reads a variable of the environment; empty ones count as not set.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What started the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Nothing that is known: this process is alone, or the settings say who it is.
    None,
    OpenMpi,
    /// MPICH, Intel MPI, and others that speak its interface.
    Pmi,
    Slurm,
    Torchrun,
    TpuVm,
}

/// This process's place among those that share a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// From 0.
    pub index: usize,
    pub count: usize,
    pub launcher: Launcher,
    /// Where that is from, in words.
    pub source: String,
}

/// What the settings say; each may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub processes: Option<usize>,
    pub process: Option<usize>,
}

/// Settings or variables from which nobody can tell who is who.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProcessesError {
    #[error(
        "{variable}: expected a whole number{below}, got `{got}`; it is {launcher}'s variable, which it sets for each process"
    )]
    Variable {
        variable: &'static str,
        launcher: Launcher,
        below: String,
        got: String,
    },
    #[error(
        "{size} says that {launcher} started several processes, but {rank} does not say which one this is; start it with \
         {launcher}, or unset both"
    )]
    Unranked {
        launcher: Launcher,
        size: &'static str,
        rank: &'static str,
    },
    #[error(
        "{one} says that this is {one_says}, and {other} says that it is {other_says}; unset the variables of the one \
         that did not start this run"
    )]
    Launchers {
        one: Launcher,
        one_says: String,
        other: Launcher,
        other_says: String,
    },
    #[error(
        "--{option} is {asked}, and {source_says} it is {detected}; leave the option out, or make them agree"
    )]
    Setting {
        option: &'static str,
        asked: usize,
        detected: usize,
        source_says: String,
    },
    #[error(
        "--processes and --process go together where no launcher says who is who; --{missing} is missing"
    )]
    Half { missing: &'static str },
    #[error(
        "`{command}` runs in one process, and here {count} do the same ({said_by}); only training shares its work. Start it \
         without mpirun or srun, or unset these variables in each process"
    )]
    One {
        command: &'static str,
        count: usize,
        said_by: String,
    },
    #[error("--process {process}: expected 0 to {}, below --processes, got {process}", .processes - 1)]
    Beyond { process: usize, processes: usize },
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nothing",
            Self::OpenMpi => "Open MPI",
            Self::Pmi => "MPICH (PMI)",
            Self::Slurm => "Slurm",
            Self::Torchrun => "torchrun",
            Self::TpuVm => "the TPU VM",
        })
    }
}

impl Launcher {
    /// The variables for the number of processes and of this one.
    fn variables(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("", ""),
            Self::OpenMpi => ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
            Self::Pmi => ("PMI_SIZE", "PMI_RANK"),
            // SLURM_NTASKS is there in a batch script too, which is only one process.
            Self::Slurm => ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
            Self::Torchrun => ("WORLD_SIZE", "RANK"),
            // A list of names, one for each worker.
            Self::TpuVm => ("TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"),
        }
    }

    /// What it says in the environment `get`; none if it did not start this process.
    fn detect(self, get: Variables) -> Result<Option<Processes>, ProcessesError> {
        let (size, rank) = self.variables();
        let Some(said) = get(size) else {
            return Ok(None);
        };
        let count = match self {
            Self::TpuVm => said.split(',').count(),
            _ => self.number(size, &said, usize::MAX)?,
        };
        let index = match get(rank) {
            Some(said) => self.number(rank, &said, count)?,
            None if count == 1 => 0,
            None => {
                let launcher = self;
                return Err(ProcessesError::Unranked {
                    launcher,
                    size,
                    rank,
                });
            }
        };
        Ok(Some(Processes {
            index,
            count,
            launcher: self,
            source: format!("{self}: {size}, {rank}"),
        }))
    }

    /// The number in `variable`, which is below `end`.
    fn number(
        self,
        variable: &'static str,
        said: &str,
        end: usize,
    ) -> Result<usize, ProcessesError> {
        let number = said.trim().parse().ok().filter(|number| *number < end);
        number.ok_or_else(|| ProcessesError::Variable {
            variable,
            launcher: self,
            below: match end {
                usize::MAX => String::new(),
                end => format!(" below {end}"),
            },
            got: said.to_owned(),
        })
    }
}

impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "process {} of {}", self.index, self.count)
    }
}

impl Processes {
    /// A process that is alone.
    pub fn alone() -> Self {
        Self {
            index: 0,
            count: 1,
            launcher: Launcher::None,
            source: "no launcher's variables".to_owned(),
        }
    }

    /// The first process does what only one of them may do: it writes the run's folder and to the terminal.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Whether several processes share a run on their CPUs. Those of a TPU slice are joined by its TPUs alone.
    pub fn share_cpus(&self) -> bool {
        self.count > 1 && self.launcher != Launcher::TpuVm
    }

    /// Refuses several processes of which each would do the whole of `command` by itself.
    ///
    /// # Errors
    /// [`ProcessesError::One`].
    pub fn check_alone(&self, command: &'static str) -> Result<(), ProcessesError> {
        // The variables of a TPU VM are there whatever runs on it.
        match self.count > 1 && self.launcher != Launcher::TpuVm {
            true => Err(ProcessesError::One {
                command,
                count: self.count,
                said_by: self.source.clone(),
            }),
            false => Ok(()),
        }
    }

    /// Who this process is, by `asked` and by the variables that `get` reads.
    ///
    /// # Errors
    /// Variables that say nothing sensible; two sources that contradict each other.
    pub fn detect(asked: Asked, get: Variables) -> Result<Self, ProcessesError> {
        match (launched(get)?, asked.processes, asked.process) {
            (Some(found), processes, process) => {
                agrees("processes", processes, found.count, &found)?;
                agrees("process", process, found.index, &found)?;
                Ok(found)
            }
            (None, None, None) => Ok(Self::alone()),
            (None, Some(count), Some(index)) if index < count => Ok(Self {
                index,
                count,
                launcher: Launcher::None,
                source: "--processes, --process".to_owned(),
            }),
            (None, Some(processes), Some(process)) => {
                Err(ProcessesError::Beyond { process, processes })
            }
            // One of one is no question.
            (None, Some(1), None) => Ok(Self::alone()),
            (None, Some(_), None) => Err(ProcessesError::Half { missing: "process" }),
            (None, None, Some(_)) => Err(ProcessesError::Half {
                missing: "processes",
            }),
        }
    }

    /// [`Self::detect`] in this process's environment.
    pub fn here(asked: Asked) -> Result<Self, ProcessesError> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::detect(asked, &get)
    }
}

/// What launchers left in the environment. One inside another counts alone: mpirun starts a process through srun on
/// each node of a Slurm job, and on the VMs of a TPU slice every launcher may run.
fn launched(get: Variables) -> Result<Option<Processes>, ProcessesError> {
    let mut inner: Option<Processes> = None;
    for launcher in [Launcher::OpenMpi, Launcher::Pmi, Launcher::Torchrun] {
        let Some(found) = launcher.detect(get)? else {
            continue;
        };
        match &inner {
            Some(first) if (first.index, first.count) != (found.index, found.count) => {
                return Err(ProcessesError::Launchers {
                    one: first.launcher,
                    one_says: first.to_string(),
                    other: found.launcher,
                    other_says: found.to_string(),
                });
            }
            Some(_) => {}
            None => inner = Some(found),
        }
    }
    for launcher in [Launcher::Slurm, Launcher::TpuVm] {
        if inner.is_none() {
            inner = launcher.detect(get)?;
        }
    }
    Ok(inner)
}

fn agrees(
    option: &'static str,
    asked: Option<usize>,
    detected: usize,
    found: &Processes,
) -> Result<(), ProcessesError> {
    match asked {
        Some(asked) if asked != detected => Err(ProcessesError::Setting {
            option,
            asked,
            detected,
            source_says: format!("by {}", found.source),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(
        processes: Option<usize>,
        process: Option<usize>,
        variables: &[(&str, &str)],
    ) -> Result<Processes, ProcessesError> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Processes::detect(Asked { processes, process }, &get)
    }

    /// Number, count and launcher that `variables` say.
    fn says(variables: &[(&str, &str)]) -> (usize, usize, Launcher) {
        let found = detect(None, None, variables).unwrap();
        (found.index, found.count, found.launcher)
    }

    fn fault(
        processes: Option<usize>,
        process: Option<usize>,
        variables: &[(&str, &str)],
    ) -> String {
        let fault = detect(processes, process, variables);
        fault.unwrap_err().to_string()
    }

    const OPEN_MPI: [(&str, &str); 2] =
        [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")];

    #[test]
    fn each_launcher_says_who_this_is() {
        assert_eq!(says(&[]), (0, 1, Launcher::None));
        assert_eq!(says(&OPEN_MPI), (3, 4, Launcher::OpenMpi));
        for (size, rank, launcher) in [
            ("PMI_SIZE", "PMI_RANK", Launcher::Pmi),
            ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", Launcher::Slurm),
            ("WORLD_SIZE", "RANK", Launcher::Torchrun),
        ] {
            assert_eq!(says(&[(size, "2"), (rank, "1")]), (1, 2, launcher));
        }
        let worker = [
            ("TPU_WORKER_ID", "2"),
            ("TPU_WORKER_HOSTNAMES", "t0,t1,t2,t3"),
        ];
        assert_eq!(says(&worker), (2, 4, Launcher::TpuVm));
        // As docs/cloud-tpu.md has it set outside a cloud VM.
        let alone = [("TPU_WORKER_HOSTNAMES", "localhost")];
        assert_eq!(says(&alone), (0, 1, Launcher::TpuVm));
    }

    #[test]
    fn a_command_for_one_process_is_refused_in_several_but_not_on_the_vm_of_a_slice() {
        let check = |variables| detect(None, None, variables).unwrap().check_alone("eval");
        let refused = check(&OPEN_MPI).unwrap_err().to_string();
        let expected = "`eval` runs in one process, and here 4 do the same (Open MPI: ";
        assert!(refused.starts_with(expected), "{refused}");
        let worker = [("TPU_WORKER_ID", "0"), ("TPU_WORKER_HOSTNAMES", "t0,t1")];
        let script = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")];
        let one = [("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")];
        for variables in [&worker[..], &script, &one, &[]] {
            assert_eq!(check(variables), Ok(()));
        }
    }

    #[test]
    fn a_batch_script_of_slurm_is_one_process() {
        let script = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")];
        assert_eq!(says(&script), (0, 1, Launcher::None));
    }

    #[test]
    fn mpirun_inside_a_slurm_job_counts_and_srun_does_not() {
        // srun started a daemon on each of two nodes, and these started two processes each.
        let slurm = [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1")];
        let both: Vec<_> = OPEN_MPI.into_iter().chain(slurm).collect();
        assert_eq!(says(&both), (3, 4, Launcher::OpenMpi));
    }

    #[test]
    fn two_launchers_that_contradict_each_other_are_refused() {
        let torchrun = |rank| [("WORLD_SIZE", "4"), ("RANK", rank)];
        let with = |rank| -> Vec<_> { OPEN_MPI.into_iter().chain(torchrun(rank)).collect() };
        assert_eq!(says(&with("3")), (3, 4, Launcher::OpenMpi));
        let fault = fault(None, None, &with("0"));
        assert!(
            fault.starts_with("Open MPI says that this is process 3 of 4, and torchrun"),
            "{fault}"
        );
    }

    #[test]
    fn settings_say_it_where_nothing_else_does_and_contradict_nobody() {
        let found = detect(Some(4), Some(3), &[]).unwrap();
        assert_eq!((found.index, found.count), (3, 4));
        assert!(detect(Some(4), Some(3), &OPEN_MPI).is_ok());
        for (processes, process, expected) in [
            (Some(2), None, "--processes is 2, and by Open MPI: "),
            (None, Some(0), "--process is 0, and by Open MPI: "),
        ] {
            let fault = fault(processes, process, &OPEN_MPI);
            assert!(fault.starts_with(expected), "{fault}");
        }
        assert!(fault(Some(4), None, &[]).ends_with("--process is missing"));
        assert!(fault(None, Some(1), &[]).ends_with("--processes is missing"));
        assert!(fault(Some(4), Some(4), &[]).starts_with("--process 4: expected 0 to 3"));
        assert_eq!(detect(Some(1), None, &[]), Ok(Processes::alone()));
    }

    #[test]
    fn variables_that_make_no_sense_are_named() {
        for (size, rank, named) in [
            (
                "four",
                "0",
                "OMPI_COMM_WORLD_SIZE: expected a whole number, got `four`",
            ),
            (
                "4",
                "4",
                "OMPI_COMM_WORLD_RANK: expected a whole number below 4, got `4`",
            ),
            (
                "4",
                "-1",
                "OMPI_COMM_WORLD_RANK: expected a whole number below 4, got `-1`",
            ),
        ] {
            let variables = [
                ("OMPI_COMM_WORLD_SIZE", size),
                ("OMPI_COMM_WORLD_RANK", rank),
            ];
            let fault = fault(None, None, &variables);
            assert!(fault.starts_with(named), "{fault}");
        }
        let unranked = fault(None, None, &[("WORLD_SIZE", "2")]);
        assert!(
            unranked.contains("RANK does not say which one"),
            "{unranked}"
        );
    }
}
