//! Keeping copies in step with other processes.
//!
//! Every process tells the others what it has changed, in numbered frames over a bus, and says
//! something at least four times in the silence that makes others doubt. It hears its own frames as
//! well: they tell that the bus works both ways, and how long it takes. From these three (numbers,
//! heartbeats, echoes) follows a [`Lease`]: until when the copies in private layers may be served.
//! Who finds the lease over forgets all copies first. So nobody has to notice a loss at the right
//! moment: a process that hears nothing, or that stood still, has no lease.
//!
//! This room knows frames, numbers and times; what a change does to the tiers is in the face.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::error::chain;
use larder_core::{Bus as _, BusError, SharedClock, Subscription};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

mod frame;
mod lease;
mod options;
mod outbox;
mod peers;
mod tally;

pub(in crate::cache) use frame::Change;
use frame::Frame;
use lease::Lease;
pub use options::CoherenceOptions;
use outbox::Outbox;
use peers::{Heard, Peers};
pub use tally::CoherenceStats;
use tally::Tally;

/// The shortest pause after a failed attempt to reach the bus; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many frames of our own are waited for.
const BEATS_MAX: usize = 256;
/// How long a goodbye may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What one cache says and hears.
pub(in crate::cache) struct Coherence {
    cache: String,
    origin: u64,
    clock: SharedClock,
    options: CoherenceOptions,
    silence_max: Duration,
    outbox: Outbox,
    lease: Lease,
    ears: Mutex<Ears>,
    /// Held by whoever forgets all copies.
    pub(in crate::cache) turn: tokio::sync::Mutex<()>,
    tally: Tally,
}

struct Ears {
    peers: Peers,
    /// When our own frames were sent that have not come back yet.
    beats: VecDeque<(u64, Instant)>,
    /// When the last of our frames was sent that came back.
    echoed: Option<Instant>,
    /// Since when we listen without a break.
    listening: Option<Instant>,
    /// Until when somebody is taken to say what cannot be read here.
    unreadable_until: Option<Instant>,
    trusted: bool,
    /// Whether somebody was told of the doubt.
    told: bool,
}

/// What was heard in one frame.
pub(in crate::cache) struct Received {
    pub(in crate::cache) changes: Vec<Change>,
    /// Something before it was missed.
    pub(in crate::cache) missed: bool,
}

impl Coherence {
    pub(in crate::cache) fn new(
        cache: &str,
        origin: u64,
        clock: &SharedClock,
        options: CoherenceOptions,
    ) -> Self {
        let silence_max = options.silence_max();
        Self {
            cache: cache.to_owned(),
            origin,
            clock: Arc::clone(clock),
            silence_max,
            outbox: Outbox::new(options.changes_max),
            lease: Lease::new(clock.instant()),
            ears: Mutex::new(Ears {
                peers: Peers::new(silence_max, options.forget_after),
                beats: VecDeque::new(),
                echoed: None,
                listening: None,
                unreadable_until: None,
                trusted: false,
                told: false,
            }),
            turn: tokio::sync::Mutex::default(),
            tally: Tally::new(cache),
            options,
        }
    }

    /// Whether the copies in private layers may be served.
    pub(in crate::cache) fn vouches(&self) -> bool {
        self.lease.holds(self.clock.instant())
    }

    /// Lets the copies be served that were made after `start`, for a while.
    pub(in crate::cache) fn grant(&self, start: Instant) {
        self.lease.extend(start + self.silence_max);
    }

    /// From now on no copy may be served that is there.
    pub(in crate::cache) fn revoke(&self) {
        self.lease.end();
    }

    pub(in crate::cache) fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// How often something is said at least.
    pub(in crate::cache) fn beat(&self) -> Duration {
        self.silence_max / 4
    }

    /// Tells a change to the others, without waiting.
    pub(in crate::cache) fn tell(&self, change: Change) {
        if !self.outbox.push(change) {
            self.tally.left_out.increment();
        }
    }

    pub(in crate::cache) fn version_refused(&self) {
        self.tally.refused_versions.increment();
    }

    pub(in crate::cache) fn forgot(&self) {
        self.tally.forgotten.increment();
    }

    pub(in crate::cache) fn stats(&self) -> CoherenceStats {
        let ears = self.ears();
        self.tally.stats(ears.trusted, ears.peers.len())
    }

    /// Sends what is to be told, and heartbeats, for ever.
    async fn speak(self: Arc<Self>) {
        loop {
            // That nothing came in time is the reason for a heartbeat.
            let _ = timeout(self.beat(), self.outbox.filled()).await;
            self.send(self.next_frame().encode()).await;
        }
    }

    fn next_frame(&self) -> Frame {
        let now = self.clock.instant();
        let mut ears = self.ears();
        let in_time = |echoed| now.saturating_duration_since(echoed) <= self.silence_max;
        let frame = self.outbox.next(self.origin, ears.echoed.is_some_and(in_time));
        if ears.beats.len() >= BEATS_MAX {
            ears.beats.pop_front();
        }
        ears.beats.push_back((frame.number, now));
        frame
    }

    /// Sends a frame, as often as it takes: those that follow must not overtake it.
    async fn send(&self, frame: Bytes) {
        let mut pause = PAUSE_MIN;
        while !self.publish(frame.clone()).await {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX).min(self.beat());
        }
    }

    async fn publish(&self, frame: Bytes) -> bool {
        let CoherenceOptions { bus, topic, .. } = &self.options;
        let sent = timeout(self.silence_max, bus.publish(topic, frame)).await;
        match sent {
            Ok(Ok(())) => {
                self.tally.sent.increment();
                return true;
            }
            Ok(Err(error)) => tracing::debug!(
                target: "larder::cache", cache = self.cache, error = chain(&error),
                "a message to other processes was not sent"
            ),
            Err(_) => tracing::debug!(
                target: "larder::cache", cache = self.cache,
                "a message to other processes was not sent in time"
            ),
        }
        self.tally.send_errors.increment();
        false
    }

    /// Listens anew, as soon as that is possible.
    pub(in crate::cache) async fn subscribe(&self) -> Subscription {
        let CoherenceOptions { bus, topic, .. } = &self.options;
        let mut pause = PAUSE_MIN;
        loop {
            match timeout(self.silence_max, bus.subscribe(topic)).await {
                Ok(Ok(subscription)) => {
                    self.tally.subscriptions.increment();
                    self.ears().listen(self.clock.instant());
                    return subscription;
                }
                Ok(Err(error)) => self.doubt(&chain(&error)),
                Err(_) => self.doubt("no subscription in time"),
            };
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Notes that the subscription has ended.
    pub(in crate::cache) fn lost(&self, error: &BusError) {
        self.ears().listening = None;
        self.doubt(&chain(error));
    }

    /// Takes in what was heard.
    pub(in crate::cache) fn hear(&self, bytes: Bytes) -> Received {
        let now = self.clock.instant();
        let mut ears = self.ears();
        let Ok(frame) = Frame::parse(bytes) else {
            ears.unreadable_until = Some(now + self.silence_max);
            self.tally.unreadable.increment();
            self.tally.gaps.increment();
            return Received { changes: Vec::new(), missed: true };
        };
        if frame.origin == self.origin {
            let missed = ears.echo(frame.number);
            if missed {
                self.tally.gaps.increment();
            }
            return Received { changes: Vec::new(), missed };
        }
        self.tally.received.increment();
        let heard = ears.peers.hear(frame.origin, frame.number, frame.well, now);
        if frame.goodbye {
            ears.peers.leave(frame.origin);
        }
        self.tally.peers.set(f64::from(u32::try_from(ears.peers.len()).unwrap_or(u32::MAX)));
        match heard {
            Heard::Repeated => return Received { changes: Vec::new(), missed: false },
            Heard::Gap => self.tally.gaps.increment(),
            Heard::InOrder => {}
        }
        frame.changes.iter().for_each(|_| self.tally.changes.increment());
        Received { changes: frame.changes, missed: heard == Heard::Gap }
    }

    /// Renews the lease as far as everybody was heard.
    pub(in crate::cache) fn renew(&self) {
        let now = self.clock.instant();
        let mut ears = self.ears();
        let Some(since) = ears.heard_since(now) else { return };
        let until = since + self.silence_max;
        if until <= now {
            return;
        }
        self.lease.extend(until);
        if !ears.trusted {
            (ears.trusted, ears.told) = (true, false);
            drop(ears);
            self.tally.trusted.set(1.0);
            let (cache, bus) = (&self.cache, self.options.bus.label());
            tracing::info!(target: "larder::cache", cache, bus, "every other process is heard");
        }
    }

    /// Notes that not everybody is heard, and says whether that is news.
    pub(in crate::cache) fn doubt(&self, reason: &str) -> bool {
        let (was_trusted, was_told) = {
            let mut ears = self.ears();
            (std::mem::take(&mut ears.trusted), std::mem::replace(&mut ears.told, true))
        };
        self.tally.trusted.set(0.0);
        if !was_told {
            let (cache, bus) = (&self.cache, self.options.bus.label());
            tracing::warn!(
                target: "larder::cache", cache, bus, reason, copies_live_for = ?self.silence_max,
                "changes of other processes may be missed: copies live for a short time only"
            );
        }
        was_trusted
    }

    /// Tells what is left to be told, and that there will be no more.
    async fn farewell(&self) {
        let last_words = async {
            while !self.outbox.is_empty() {
                self.publish(self.next_frame().encode()).await;
            }
            let frame = Frame { goodbye: true, ..self.next_frame() };
            self.publish(frame.encode()).await;
        };
        // Whoever does not hear it finds out by the silence.
        let _ = timeout(FAREWELL_MAX, last_words).await;
    }

    fn ears(&self) -> MutexGuard<'_, Ears> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears {
    /// Notes that we listen anew.
    fn listen(&mut self, now: Instant) {
        self.peers.listen(now);
        self.beats.clear();
        self.echoed = None;
        self.listening = Some(now);
    }

    /// Notes that a frame of our own came back, and says whether one before it did not.
    fn echo(&mut self, number: u64) -> bool {
        let mut missed = false;
        while let Some((sent, at)) = self.beats.pop_front_if(|(sent, _)| *sent <= number) {
            if sent == number {
                self.echoed = self.echoed.max(Some(at));
            } else {
                missed = true;
            }
        }
        missed
    }

    /// Since when not everybody was heard, ourselves included; `None`: there is no such time.
    fn heard_since(&mut self, now: Instant) -> Option<Instant> {
        self.listening?;
        if self.unreadable_until.is_some_and(|until| now < until) {
            return None;
        }
        let others = self.peers.heard_since(now)?;
        self.echoed.map(|echoed| echoed.min(others))
    }
}

impl fmt::Debug for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coherence").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// The part that a cache takes in what is said; it ends with the cache.
pub(in crate::cache) struct Membership {
    pub(in crate::cache) coherence: Arc<Coherence>,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    running: Option<[JoinHandle<()>; 2]>,
    left: bool,
}

impl Membership {
    pub(in crate::cache) fn new(coherence: Coherence) -> Self {
        Self { coherence: Arc::new(coherence), tasks: Mutex::default() }
    }

    /// Lets the cache speak, and listen by `listen`, unless it does already. Outside of a runtime
    /// nothing happens; one that has ended has taken its tasks with it.
    pub(in crate::cache) fn keep_up<F>(&self, listen: impl FnOnce(Arc<Coherence>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = self.tasks();
        let running = |tasks: &[JoinHandle<()>; 2]| !tasks.iter().any(JoinHandle::is_finished);
        if tasks.left || tasks.running.as_ref().is_some_and(running) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        tasks.stop();
        let speak = runtime.spawn(Arc::clone(&self.coherence).speak());
        let listen = runtime.spawn(listen(Arc::clone(&self.coherence)));
        tasks.running = Some([speak, listen]);
    }

    /// Says goodbye and neither speaks nor listens any more.
    pub(in crate::cache) async fn leave(&self) {
        {
            let mut tasks = self.tasks();
            if std::mem::replace(&mut tasks.left, true) {
                return;
            }
            tasks.stop();
        }
        self.coherence.doubt("left");
        self.coherence.farewell().await;
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    fn stop(&mut self) {
        self.running.take().into_iter().flatten().for_each(|task| task.abort());
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let (left, spoke) = {
            let mut tasks = self.tasks();
            let spoke = tasks.running.is_some();
            tasks.stop();
            (tasks.left, spoke)
        };
        if spoke
            && !left
            && let Ok(runtime) = Handle::try_current()
        {
            let coherence = Arc::clone(&self.coherence);
            runtime.spawn(async move { coherence.farewell().await });
        }
    }
}
