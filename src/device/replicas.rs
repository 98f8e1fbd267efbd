//! How many devices share each batch.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::system::limits::{REPLICAS, whole};

/// The value of `--replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReplicaChoice {
    Count(NonZeroUsize),
    Every(Every),
}

/// One replica for each device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    All,
}

impl ReplicaChoice {
    /// The number, where it does not depend on the devices that are there.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count.get()),
            Self::Every(Every::All) => None,
        }
    }
}

impl FromStr for ReplicaChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::Every(Every::All));
        }
        let count = whole(REPLICAS)(text).ok().and_then(NonZeroUsize::new);
        count.map(Self::Count).ok_or_else(|| {
            let (least, most) = (REPLICAS.start(), REPLICAS.end());
            format!("expected a whole number from {least} to {most}, or all")
        })
    }
}

/// "1 replica", "8 replicas".
pub struct Counted(pub usize);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ending = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} replica{ending}", self.0)
    }
}
