//! Ends this process when another that it works with gives no sign of life: one that is stopped, or whose machine or
//! network is gone. One that has died is noticed sooner, by `system::watch` or by its broken connection.
//!
//! A thread that does nothing else sends the beats, so that a long compilation or a slow disk does not stop them. A
//! process that beats and keeps the others waiting is only named: nobody knows whether its disk is slow or stuck.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::device::seconds::{self, SecondsError};

/// The variable for the seconds without a beat after which a process counts as hanging; 0: none does.
pub const VARIABLE: &str = "RESNET_XLA_HANG_SECONDS";

/// Without [`VARIABLE`].
pub const LIMIT: Duration = Duration::from_secs(8);

/// With 0 in [`VARIABLE`]: longer than any run.
pub const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

const BETWEEN_BEATS: Duration = Duration::from_millis(250);

/// From the moment that a process hangs until the others know, at most, without [`VARIABLE`]: its last beat may be heard by
/// the look after it, and its silence too. What each way of joining processes adds until all have ended must leave it below
/// [`PROMISED`]; they check that when they are compiled. No test measures it: a machine that is busy enough is late with any
/// thread, and a process that was late itself begins to listen anew.
pub const NOTICED: Duration = LIMIT.saturating_add(BETWEEN_BEATS.saturating_mul(2));

/// All others have ended so long after a process hangs.
pub const PROMISED: Duration = Duration::from_secs(10);

/// How many times as long a process that beats may keep the others waiting before they say so.
const PATIENCE: u32 = 8;

/// How long a process may give no sign of life.
///
/// # Errors
/// [`VARIABLE`] is no number of seconds.
pub fn limit() -> Result<Duration, SecondsError> {
    let limit = seconds::limit(VARIABLE, 0, LIMIT)?;
    Ok(match limit.is_zero() {
        true => NEVER,
        false => limit,
    })
}

/// The thread that sends and hears the beats.
pub struct Heartbeat {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

/// What the thread shares with the process.
#[derive(Default)]
struct State {
    stopped: AtomicBool,
    leaving: AtomicBool,
    waited_for: AtomicBool,
}

impl Heartbeat {
    /// Starts to call `beat`. Once a process was silent for `limit`, calls `lost` with words that say so. `own` is this
    /// process's number, and `hosts` names the machine of each.
    ///
    /// `beat` sets a number for each process that it has heard since it was called last, and for this one: one more than
    /// the collectives that the process has come to. It returns whether this process waits in one of them.
    ///
    /// # Errors
    /// The system allows no other thread.
    pub fn start(
        mut beat: impl FnMut(&mut [u64]) -> bool + Send + 'static,
        own: usize,
        hosts: Vec<String>,
        limit: Duration,
        lost: impl FnOnce(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new().name("heartbeat".to_owned());
        let thread = thread.spawn(move || {
            let mut silence = Silence::begin(hosts.len(), own, limit, Instant::now());
            let mut wait = Wait::begin(hosts.len(), own, PATIENCE * limit, Instant::now());
            while !shared.stopped.load(Ordering::SeqCst) {
                let leaves = shared.leaving.load(Ordering::SeqCst);
                let mut heard = vec![0; hosts.len()];
                let waits = beat(&mut heard);
                let now = Instant::now();
                if let Some(process) = silence.after(&heard, now) {
                    return lost(&silent(process, &hosts, limit));
                }
                if let Some(process) = wait.after(&heard, waits, now) {
                    say_late(process, &hosts, PATIENCE * limit);
                }
                if leaves && wait.is_behind() {
                    shared.waited_for.store(true, Ordering::SeqCst);
                }
                thread::park_timeout(BETWEEN_BEATS);
            }
        })?;
        Ok(Self { state, thread })
    }

    /// From now on this process comes to no more collectives.
    pub fn leave(&self) {
        self.state.leaving.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
    }

    /// Whether another process was heard in a collective to which this one, which has said that it leaves, does not come.
    pub fn is_waited_for(&self) -> bool {
        self.state.waited_for.load(Ordering::SeqCst)
    }

    /// Waits until no beat is under way, and lets none follow.
    pub fn stop(self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        // It panics nowhere, and a process that ends need not know.
        let _ = self.thread.join();
    }
}

fn silent(process: usize, hosts: &[String], limit: Duration) -> String {
    let (count, host, seconds) = (hosts.len(), &hosts[process], limit.as_secs());
    format!(
        "process {process} of {count}, on {host}, has given no sign of life for {seconds} s ({VARIABLE} sets the time)"
    )
}

fn say_late(process: usize, hosts: &[String], limit: Duration) {
    let (count, host, seconds) = (hosts.len(), &hosts[process], limit.as_secs());
    // If stderr is closed, there is nowhere to report.
    let _ = writeln!(
        std::io::stderr(),
        "warning: process {process} of {count}, on {host}, has kept the others waiting for {seconds} s. It is alive: it \
         loads, compiles or saves, or waits for a disk that is stuck"
    );
}

/// How long nothing was heard of each process.
struct Silence {
    own: usize,
    limit: Duration,
    heard: Vec<Instant>,
    before: Instant,
}

impl Silence {
    fn begin(processes: usize, own: usize, limit: Duration, now: Instant) -> Self {
        Self {
            own,
            limit,
            heard: vec![now; processes],
            before: now,
        }
    }

    /// Takes what was `heard` since the last call. Returns the first process that was silent for too long.
    fn after(&mut self, heard: &[u64], now: Instant) -> Option<usize> {
        // A process that was stopped itself cannot know how long the others have been silent: launchers stop all.
        let was_stopped = now - self.before > (self.limit / 4).max(2 * BETWEEN_BEATS);
        self.before = now;
        for (at, heard) in self.heard.iter_mut().zip(heard) {
            if *heard != 0 || was_stopped {
                *at = now;
            }
        }
        let mut processes = 0..self.heard.len();
        processes.find(|&process| process != self.own && now - self.heard[process] >= self.limit)
    }
}

/// How long this process waits for others that have not come to the same collective, and which they are.
struct Wait {
    own: usize,
    limit: Duration,
    /// What was heard last of each.
    counts: Vec<u64>,
    since: Instant,
    said: bool,
}

impl Wait {
    fn begin(processes: usize, own: usize, limit: Duration, now: Instant) -> Self {
        Self {
            own,
            limit,
            counts: vec![0; processes],
            since: now,
            said: false,
        }
    }

    /// Takes what was `heard` since the last call, and whether this process `waits` in a collective. Returns the first
    /// process that it has waited for too long, once, in the first of the processes that wait.
    fn after(&mut self, heard: &[u64], waits: bool, now: Instant) -> Option<usize> {
        let goes_on = heard[self.own] != self.counts[self.own];
        for (count, heard) in self.counts.iter_mut().zip(heard) {
            *count = (*count).max(*heard);
        }
        if goes_on || !waits {
            (self.since, self.said) = (now, false);
        }
        if self.said || now - self.since < self.limit {
            return None;
        }
        self.said = true;
        let is_late = |process: &usize| self.counts[*process] < self.counts[self.own];
        let is_first = (0..self.own).all(|process| is_late(&process));
        let late = (0..self.counts.len()).find(is_late);
        late.filter(|_| is_first)
    }

    /// Whether another process has come to a collective to which this one has not.
    fn is_behind(&self) -> bool {
        self.counts
            .iter()
            .any(|&count| count > self.counts[self.own])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn with_the_shortest_limit_too_the_time_between_two_beats_does_not_count_as_a_stop() {
        let begin = Instant::now();
        let mut silence = Silence::begin(2, 0, Duration::from_secs(1), begin);
        let said = (1..=4).map(|beat| {
            let now = begin + beat * (BETWEEN_BEATS + Duration::from_millis(10));
            silence.after(&[1, 0], now)
        });
        assert_eq!(said.collect::<Vec<_>>(), [None, None, None, Some(1)]);
    }

    /// Calls [`Silence::after`] at each of these moments, in seconds, with what was heard; what it says last.
    fn after(moments: &[(f64, [u64; 3])]) -> Option<usize> {
        let begin = Instant::now();
        let mut silence = Silence::begin(3, 1, Duration::from_secs(8), begin);
        let mut said = None;
        for (seconds, heard) in moments {
            assert_eq!(said, None);
            said = silence.after(heard, begin + Duration::from_secs_f64(*seconds));
        }
        said
    }

    /// A moment each second, from 1 to `last`, at which process 0 is heard, and process 2 until `until`.
    fn silent_from(until: u32, last: u32) -> Vec<(f64, [u64; 3])> {
        let heard = |second| [1, 0, u64::from(second <= until)];
        (1..=last)
            .map(|second| (second.into(), heard(second)))
            .collect()
    }

    #[test]
    fn a_process_that_is_silent_for_so_long_is_named_and_this_one_never_is() {
        assert_eq!(after(&silent_from(20, 20)), None);
        assert_eq!(after(&silent_from(5, 12)), None);
        assert_eq!(after(&silent_from(5, 13)), Some(2));
    }

    #[test]
    fn a_process_that_was_stopped_itself_begins_to_listen_anew() {
        let mut moments = silent_from(5, 12);
        // Nobody was heard for a minute, this process included.
        moments.push((72.0, [0; 3]));
        assert_eq!(after(&moments), None);
        let on = |second: u32| (72.0 + f64::from(second), [1, 0, 0]);
        moments.extend((1..=7).map(on));
        assert_eq!(after(&moments), None);
        moments.push(on(8));
        assert_eq!(after(&moments), Some(2));
    }

    #[test]
    fn the_first_process_that_waits_says_once_for_whom() {
        let begin = Instant::now();
        // What each of three processes hears in each second: process 1 comes to no more collectives than 4.
        let moments = [([5, 4, 5], true), ([0, 4, 5], true), ([0, 4, 5], true)];
        let said = |own: usize, moments: &[([u64; 3], bool)]| -> Vec<Option<usize>> {
            let mut wait = Wait::begin(3, own, Duration::from_secs(2), begin);
            let seconds = moments.iter().zip(1..);
            let after = |((heard, waits), second): (&([u64; 3], bool), u64)| {
                let mut heard = *heard;
                heard[own] = 5;
                wait.after(&heard, *waits, begin + Duration::from_secs(second))
            };
            seconds.map(after).collect()
        };
        assert_eq!(said(0, &moments), [None, None, Some(1)]);
        assert_eq!(said(2, &moments), [None; 3]);
        let again = [&moments[..], &moments[1..]].concat();
        assert_eq!(said(0, &again), [None, None, Some(1), None, None]);
        // It computed in between.
        let between = [moments[0], ([0, 4, 5], false), moments[2]];
        assert_eq!(said(0, &between), [None; 3]);
    }

    #[test]
    fn a_process_that_leaves_hears_that_another_waits_for_it() {
        let day = Duration::from_secs(24 * 60 * 60);
        let hosts = vec!["one".to_owned(), "two".to_owned()];
        let (beaten, beat) = mpsc::channel();
        let ahead = move |heard: &mut [u64]| {
            heard.copy_from_slice(&[4, 5]);
            // Nobody listens once the test is over.
            let _ = beaten.send(());
            false
        };
        let unused = |_: &str| panic!("everybody was heard");
        let heartbeat = Heartbeat::start(ahead, 0, hosts, day, unused).unwrap();
        // The third beat begins when all of the second is done.
        (0..3).for_each(|_| beat.recv().unwrap());
        assert!(!heartbeat.is_waited_for(), "it may still come");
        heartbeat.leave();
        // Those of before do not count.
        beat.try_iter().for_each(drop);
        (0..3).for_each(|_| beat.recv().unwrap());
        assert!(heartbeat.is_waited_for());
        heartbeat.stop();

        let begin = Instant::now();
        let mut wait = Wait::begin(2, 0, day, begin);
        for (heard, behind) in [([4, 4], false), ([4, 5], true), ([5, 0], false)] {
            wait.after(&heard, false, begin);
            assert_eq!(wait.is_behind(), behind, "{heard:?}");
        }
    }

    #[test]
    fn the_thread_ends_when_it_is_stopped_and_calls_what_ends_the_process_when_nobody_answers() {
        let hosts = vec!["one".to_owned(), "two".to_owned()];
        let all = |heard: &mut [u64]| {
            heard.fill(1);
            false
        };
        let day = Duration::from_secs(24 * 60 * 60);
        let unused = |_: &str| panic!("everybody was heard");
        let heartbeat = Heartbeat::start(all, 0, hosts.clone(), day, unused).unwrap();
        heartbeat.stop();

        let (ended, end) = mpsc::channel();
        let nobody = |_: &mut [u64]| false;
        // Less than between two beats: the first one that is late says so.
        let heartbeat = Heartbeat::start(nobody, 0, hosts, Duration::ZERO, move |silent| {
            ended.send(silent.to_owned()).unwrap();
        });
        assert_eq!(
            end.recv().unwrap(),
            "process 1 of 2, on two, has given no sign of life for 0 s (RESNET_XLA_HANG_SECONDS sets the time)"
        );
        heartbeat.unwrap().stop();
    }
}
