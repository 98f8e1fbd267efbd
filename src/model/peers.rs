//! What the processes of a run tell each other: small sums over their devices, and nothing else.
//!
//! A process puts what it has to say at its own place, among zeros; the sum over all replicas then has what everybody
//! said. Words of 32 bits go as two numbers of 16 bits each, which f32 adds up exactly on any device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use xla_graphs::Layout;

use crate::device::Device;
use crate::device::backend::{DeviceArray, Executable};
use crate::model::state::HostState;
use crate::model::sum;
use crate::system::sha256;

/// Words that are shared at once.
const BLOCK: usize = 32 << 10;

/// Processes were started with different programs, settings or data.
#[derive(Debug, thiserror::Error)]
#[error(
    "the processes do not agree on `{field}`: process {process} has another than process 0; here, on process {here}, it \
     is {value}. Start all of them with the same program, settings and data"
)]
pub struct PeersDiffer {
    pub field: String,
    /// The first that differs.
    pub process: usize,
    pub here: usize,
    pub value: String,
}

/// The processes that share a run, this one among them.
pub struct Peers<'a> {
    device: &'a Device,
    /// The sums, by the number of their values.
    sums: Mutex<HashMap<usize, Arc<dyn Executable>>>,
}

/// What everybody said, which may still be on its way.
pub struct Said {
    sum: Box<dyn DeviceArray>,
    processes: usize,
}

impl Said {
    /// Waits for it: the words of each process.
    pub fn read(&self) -> Result<Vec<Vec<u32>>> {
        let words = to_words(&self.sum.to_f32().context("hearing the other processes")?);
        let each = words.len() / self.processes;
        Ok(words.chunks_exact(each).map(<[u32]>::to_vec).collect())
    }
}

impl<'a> Peers<'a> {
    /// Those that run on the devices that `device` is one of.
    pub fn new(device: &'a Device) -> Self {
        Self {
            device,
            sums: Mutex::default(),
        }
    }

    /// Whether there is any other process.
    pub fn are_there(&self) -> bool {
        self.device.processes() > 1
    }

    /// Whether this process does what only one may do.
    pub fn is_first(&self) -> bool {
        self.device.process() == 0
    }

    /// Tells all processes `words`, as many as each of them tells.
    pub fn tell(&self, words: &[u32]) -> Result<Said> {
        let processes = self.device.processes();
        let mut all = vec![0; words.len() * processes];
        all[words.len() * self.device.process()..][..words.len()].copy_from_slice(words);
        Ok(Said {
            sum: self.sum(&all)?,
            processes,
        })
    }

    /// Waits until all processes have come here.
    pub fn meet(&self) -> Result<()> {
        match self.are_there() {
            true => self.tell(&[0])?.read().map(drop),
            false => Ok(()),
        }
    }

    /// `values` of each process, one behind the other; as many of each.
    pub fn join(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        if !self.are_there() {
            return Ok(values);
        }
        let words: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        let all = self.tell(&words)?.read()?;
        Ok(all.into_iter().flatten().map(f32::from_bits).collect())
    }

    /// Checks that all processes have the same `fields`, given by name and value, as many in each.
    ///
    /// # Errors
    /// [`PeersDiffer`], with the first field that differs.
    pub fn agree(&self, fields: &[(&str, String)]) -> Result<()> {
        if !self.are_there() {
            return Ok(());
        }
        let sums: Vec<u32> = fields.iter().map(|(_, value)| short_sum(value)).collect();
        let all = self.tell(&sums)?.read()?;
        match first_difference(&all) {
            None => Ok(()),
            Some((field, process)) => {
                let (name, value) = &fields[field];
                Err(PeersDiffer {
                    field: (*name).to_owned(),
                    process,
                    here: self.device.process(),
                    value: value.clone(),
                }
                .into())
            }
        }
    }

    /// The text that the first process gives; what the others give is ignored.
    pub fn share_text(&self, text: String) -> Result<String> {
        if !self.are_there() {
            return Ok(text);
        }
        let len = self.tell(&[text.len() as u32])?.read()?[0][0] as usize;
        let mut bytes = text.into_bytes();
        bytes.resize(len.next_multiple_of(4), 0);
        let words = bytes.chunks_exact(4);
        let words = words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let mut words: Vec<u32> = words.collect();
        self.share(&mut words)?;
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.truncate(len);
        String::from_utf8(bytes).context("what the first process said is no text")
    }

    /// The state that the first process gives, bit for bit; the others give none.
    pub fn share_state(&self, layout: &Layout, state: Option<HostState>) -> Result<HostState> {
        if !self.are_there() {
            return state.context("there is no state");
        }
        let lens: Vec<usize> = layout.state().iter().map(|spec| spec.len()).collect();
        let values = state.map_or(Vec::new(), HostState::into_values).concat();
        let mut words: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        words.resize(lens.iter().sum(), 0);
        self.share(&mut words)?;
        let mut words = words.into_iter().map(f32::from_bits);
        let tensors = lens
            .iter()
            .map(|&len| words.by_ref().take(len).collect::<Vec<f32>>());
        Ok(HostState::new(tensors.collect()))
    }

    /// Replaces `words`, as many in each process, by those of the first one.
    fn share(&self, words: &mut [u32]) -> Result<()> {
        for block in words.chunks_mut(BLOCK) {
            let mut whole = vec![0; BLOCK];
            if self.is_first() {
                whole[..block.len()].copy_from_slice(block);
            }
            let shared = to_words(&self.sum(&whole)?.to_f32()?);
            block.copy_from_slice(&shared[..block.len()]);
        }
        Ok(())
    }

    /// The sum of all processes' `words`, as halves.
    fn sum(&self, words: &[u32]) -> Result<Box<dyn DeviceArray>> {
        let values = to_halves(words);
        let zeros = vec![0.0; values.len()];
        let mut inputs = Vec::new();
        for replica in 0..self.device.own_replicas() {
            let values = if replica == 0 { &values } else { &zeros };
            inputs.push(self.device.upload(values, &[values.len()], replica)?);
        }
        let inputs: Vec<Vec<&dyn DeviceArray>> =
            inputs.iter().map(|input| vec![input.as_ref()]).collect();
        let outputs = self.program(values.len())?.run(&inputs);
        let outputs = outputs.context("speaking to the other processes")?;
        let sum = outputs.into_iter().flatten().next();
        sum.context("a sum over the processes returned nothing")
    }

    /// The compiled sum over all replicas of `len` values.
    fn program(&self, len: usize) -> Result<Arc<dyn Executable>> {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sums.get(&len) {
            return Ok(Arc::clone(known));
        }
        let compiled = self.device.load_or_compile(
            "the sum over processes",
            sum::over_replicas(len),
            self.device.replicas,
        )?;
        let compiled: Arc<dyn Executable> = Arc::from(compiled.executable);
        sums.insert(len, Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// The first field in which any process differs from the first one, and that process.
fn first_difference(all: &[Vec<u32>]) -> Option<(usize, usize)> {
    let (first, others) = all.split_first()?;
    (0..first.len()).find_map(|field| {
        let differs = |other: &Vec<u32>| other[field] != first[field];
        others
            .iter()
            .position(differs)
            .map(|place| (field, place + 1))
    })
}

/// The first 32 bits of the SHA-256 sum of `text`.
fn short_sum(text: &str) -> u32 {
    let digits = &sha256::sum(text.as_bytes())[..8];
    u32::from_str_radix(digits, 16).expect("a sum is written in hexadecimal digits")
}

/// Two numbers below 65,536 for each word, the lower half first.
fn to_halves(words: &[u32]) -> Vec<f32> {
    let halves = words.iter().flat_map(|word| [word & 0xffff, word >> 16]);
    halves.map(|half| half as f32).collect()
}

/// The words that [`to_halves`] made `halves` of.
fn to_words(halves: &[f32]) -> Vec<u32> {
    let pairs = halves.chunks_exact(2);
    pairs
        .map(|pair| pair[0] as u32 | (pair[1] as u32) << 16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives_the_way_through_f32_and_a_sum_with_zeros() {
        let words = [
            0,
            1,
            0xffff,
            0x1_0000,
            u32::MAX,
            (-0.0f32).to_bits(),
            f32::NAN.to_bits(),
            1e-40f32.to_bits(),
        ];
        let summed: Vec<f32> = to_halves(&words)
            .iter()
            .map(|half| 0.0 + half + 0.0)
            .collect();
        assert_eq!(to_words(&summed), words);
    }

    #[test]
    fn the_first_field_that_differs_is_found_and_who_differs() {
        let all = |rows: &[[u32; 3]]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
        assert_eq!(first_difference(&all(&[[1, 2, 3], [1, 2, 3]])), None);
        let two = all(&[[1, 2, 3], [1, 2, 4], [1, 9, 3]]);
        assert_eq!(first_difference(&two), Some((1, 2)));
        assert_eq!(first_difference(&all(&[[1, 2, 3]])), None);
    }

    #[test]
    fn a_short_sum_is_the_beginning_of_the_published_one() {
        assert_eq!(short_sum("abc"), 0xba78_16bf);
    }
}
