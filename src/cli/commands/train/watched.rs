//! A watch over processes that their plugin has joined by itself: libtpu finds the hosts of a slice, and says nothing of one
//! that dies or hangs before its own limits have passed.
//!
//! They meet at an address of the first, which tells it over the devices. In the same way they then tell each other whether
//! they have met: either all watch, or none does.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::device::coordinator::address::{Address, Named};
use crate::device::coordinator::{self, CoordinatorError, Joined, Place};
use crate::device::processes::{Launcher, Processes};
use crate::device::{Device, DeviceError};
use crate::model::peers::Peers;

/// Who says where the processes meet, where nobody asked for a place.
const BY_ITSELF: &str = "the address of process 0's machine";

/// What the first process tells the others.
#[derive(Serialize, Deserialize)]
struct Told {
    /// Whether the user has named the place.
    asked: bool,
    /// Where it listens, if it shall, or why it cannot.
    address: Result<Option<Address>, String>,
}

/// Has the processes watch each other from now on, if nothing else does; the first one listens where the user has `asked`
/// for it, or at its own address.
///
/// # Errors
/// They do not meet where the user has asked for it. Otherwise they go on without a watch, and say so.
pub fn watch(device: &Device, peers: &Peers, asked: Option<&Address>) -> Result<()> {
    if !device.is_joined_by_plugin() {
        return Ok(());
    }
    let processes = Processes {
        index: device.process(),
        count: device.processes(),
        launcher: Launcher::TpuVm,
        source: "its plugin".to_owned(),
    };
    let unwatched = coordinator::is_patient_for_ever().map_err(DeviceError::from)?;
    let place = match processes.is_first() && !unwatched {
        true => place(asked).map(Some),
        false => Ok(None),
    };
    let told = hear(peers, asked, &place)?;
    let Some(met) = meet(&processes, place, &told) else {
        return Ok(());
    };
    let have_met = peers.tell(&[met.is_ok().into()])?.read()?;
    match (met, have_met.iter().position(|said| said[0] == 0)) {
        (Ok(joined), None) => {
            joined.watch();
            Ok(())
        }
        (Ok(_), Some(missing)) => go_on(
            CoordinatorError::Lost(format!(
                "process {missing} of {} did not come",
                processes.count
            )),
            &told,
        ),
        (Err(reason), _) => go_on(reason, &told),
    }
}

/// What the first process tells all, which listens at `place`.
fn hear(
    peers: &Peers,
    asked: Option<&Address>,
    place: &Result<Option<Place>, CoordinatorError>,
) -> Result<Told> {
    let own = Told {
        asked: asked.is_some(),
        address: match place {
            Ok(place) => Ok(place.as_ref().map(Place::address)),
            Err(error) => Err(error.to_string()),
        },
    };
    let told = peers.share_text(serde_json::to_string(&own)?)?;
    Ok(serde_json::from_str(&told)?)
}

/// Goes on without a watch, for this `reason`, unless the user has asked for one.
fn go_on(reason: CoordinatorError, told: &Told) -> Result<()> {
    if told.asked {
        return Err(DeviceError::from(reason).into());
    }
    // Said by the first process alone, as all that is no error.
    log::warn!(
        "the processes do not watch each other: {reason}. The run goes on, and one that dies or hangs is noticed by its \
         plugin alone. Let the network through to that port, or name another place with --coordinator HOST:PORT; \
         RESNET_XLA_HANG_SECONDS=0 leaves the watch out"
    );
    Ok(())
}

/// Where the first process listens from now on.
fn place(asked: Option<&Address>) -> Result<Place, CoordinatorError> {
    let (address, by) = match asked {
        Some(address) => (address.clone(), "--coordinator"),
        None => (
            Address::own().map_err(CoordinatorError::NoNetwork)?,
            BY_ITSELF,
        ),
    };
    let by = by.to_owned();
    Place::to_listen_at(Named { address, by })
}

/// Meets the others, if the first process has `told` that they shall; it has a `place` of its own.
fn meet<'a>(
    processes: &'a Processes,
    place: Result<Option<Place>, CoordinatorError>,
    told: &Told,
) -> Option<Result<Joined<'a>, CoordinatorError>> {
    let place = match (place, &told.address) {
        (Err(error), _) => return Some(Err(error)),
        (_, Err(reason)) => return Some(Err(CoordinatorError::Lost(reason.clone()))),
        (Ok(Some(place)), _) => place,
        (Ok(None), Ok(address)) => Place::to_call(Named {
            address: address.clone()?,
            by: match told.asked {
                true => "--coordinator".to_owned(),
                false => BY_ITSELF.to_owned(),
            },
        }),
    };
    let patience = coordinator::patience(coordinator::UNTIL_ALL_ANSWER);
    Some(patience.and_then(|patience| coordinator::join(processes, place, "", patience)))
}
